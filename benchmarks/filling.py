"""Computing what is missing: the first epoch with ``on_miss="fill"`` against the bare encoder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import merstore

from .figures import Figure, ratio
from .measure import interleave

PART = "Filling: a vision transformer of the size of DINOv2-small (random weights), CPU, 8 frames of each clip"
CLIPS, BATCH, ROUNDS = 16, 8, 3
BARE = "the encoder alone, on the same batches of frames"


def run(folder: Path) -> Iterator[Figure]:
    try:
        from transformers import Dinov2Config, Dinov2Model

        from merstore.extract import FrameFeatures, VisionEncoder
        from merstore.extract.demo_encoder import make_random_encoder
        from merstore.fill import Filler, declare
        from merstore.load import FeatureDataset, FeatureLoader
    except ImportError as error:
        print(f"  left out: {error}")
        return

    class Ready(FrameFeatures):
        """Has the frames of its clips already."""

        def decode(self, path: str | Path) -> np.ndarray:
            return frames[str(path)]

    work = folder / "filling"
    encoder = make_random_encoder(work / "encoder", kind="dinov2")
    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, patch_size=14
    )
    Dinov2Model(config).save_pretrained(encoder)
    features = Ready(VisionEncoder(encoder))
    names = [f"sample_{number:08d}" for number in range(CLIPS)]
    draw = np.random.default_rng(0)
    frames = {name: draw.integers(0, 256, (features.n, 224, 224, 3), np.uint8) for name in names}
    clips = {name: Path(name) for name in names}
    features.encode([frames[names[0]]])

    def bare(number: int) -> Iterator[None]:
        yield
        for first in range(0, CLIPS, BATCH):
            features.encode([frames[name] for name in names[first : first + BATCH]])
        yield

    def filled(number: int) -> Iterator[None]:
        with merstore.open(work / "s.mer", "w") as store:
            view = declare(store, "bench", features)
            view.filler = Filler(clips, features, batch=BATCH)
            loader = FeatureLoader(FeatureDataset(view, names, on_miss="fill"), BATCH)
            yield
            for batch in loader:
                assert batch.mask["frame"].all()
            yield
        shutil.rmtree(work / "s.mer")

    seconds = interleave({"filled": filled, BARE: bare}, ROUNDS)
    nbytes = sum(array.nbytes for array in frames.values())
    what = 'an epoch of FeatureLoader, on_miss="fill", all missing, committed as it goes'
    yield ratio(PART, what, BARE, seconds["filled"], seconds[BARE], nbytes, 0.95)
    shutil.rmtree(work)
