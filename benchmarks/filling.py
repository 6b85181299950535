"""Computing what is missing, offline and lazily, against the bare encoder."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import merstore

from .figures import Figure, milliseconds, ratio
from .measure import interleave

PART = "Filling: a vision transformer of the size of DINOv2-small (random weights), CPU, 8 frames of each clip"
RESUMED = "Resuming a finished prewarm of 100,000 samples in two views"
CLIPS, ROUNDS = 16, 5
LAZY, COUNT = 60, 100_000
BARE = "the encoder alone, all clips ready"


def run(folder: Path) -> Iterator[Figure]:
    yield from _resumed(folder / "resumed")
    try:
        from transformers import Dinov2Config, Dinov2Model

        from merstore.extract.demo_encoder import make_random_encoder
        from merstore.extract.models import quiet
        from merstore.extract.registry import recipe
        from merstore.fill import Filler, declare, prewarm
        from merstore.load import FeatureDataset, FeatureLoader
    except ImportError as error:
        print(f"  left out: {error}")
        return

    work = folder / "filling"
    encoder = make_random_encoder(work / "encoder", kind="dinov2")
    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, patch_size=14
    )
    with quiet():
        Dinov2Model(config).save_pretrained(encoder)
    features: Any = recipe("frame@encoder/uniform_8frms", weights=encoder, device="cpu")
    names = [f"sample_{number:08d}" for number in range(CLIPS)]
    draw = np.random.default_rng(0)
    frames = {name: draw.integers(0, 256, (8, 224, 224, 3), np.uint8) for name in names}
    # the frames of its clips are there already: decoding is not what is measured
    features.request = lambda reading: None
    features.prepare = lambda reading: frames[reading.material.name]
    clips = {name: Path(name) for name in names}
    features.encode([frames[names[0]]])

    def bare(number: int) -> Iterator[None]:
        yield
        features.encode(list(frames.values()))
        yield

    def singly(number: int) -> Iterator[None]:
        yield
        for pixels in frames.values():
            features.encode([pixels])
        yield

    def offline(number: int) -> Iterator[None]:
        with merstore.open(work / "s.mer", "w") as store:
            yield
            (report,) = prewarm(store, "bench", clips, [features], jobs=0)
            assert report.computed == CLIPS
            yield
        shutil.rmtree(work / "s.mer")

    def filled(number: int) -> Iterator[None]:
        with merstore.open(work / "s.mer", "w") as store:
            view = declare(store, "bench", features)
            view.filler = Filler(clips, features, jobs=0)
            loader = FeatureLoader(FeatureDataset(view, names, on_miss="fill"), CLIPS // 2)
            yield
            for batch in loader:
                assert batch.mask["frame"].all()
            yield
        shutil.rmtree(work / "s.mer")

    sides = {"offline": offline, "filled": filled, "singly": singly, BARE: bare}
    seconds = interleave(sides, ROUNDS)
    for what, side, bar in (
        ("prewarm, all missing, committed", "offline", 0.95),
        ('an epoch of FeatureLoader, on_miss="fill", all missing, committed', "filled", 0.95),
    ):
        yield ratio(PART, what, BARE, seconds[side], seconds[BARE], CLIPS, bar, "clips")
    what = "all clips together, as windows are encoded"
    yield ratio(
        PART, what, "one clip at a time", seconds[BARE], seconds["singly"], CLIPS, 1.0, "clips"
    )
    shutil.rmtree(work)


def _resumed(work: Path) -> Iterator[Figure]:
    from merstore.fill import Filler, declare, prewarm

    names = [f"sample_{number:08d}" for number in range(COUNT)]
    clips = {name: Path(name) for name in names}
    recipes: Any = [Ready("one"), Ready("two")]
    with merstore.open(work / "s.mer", "w") as store:
        for each in recipes:
            declare(store, "bench", each).update((name, ROW) for name in names)
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        with merstore.open(work / "s.mer", "a") as store:
            reports = prewarm(store, "bench", clips, recipes)
        seconds.append(time.perf_counter() - started)
        assert [report.present for report in reports] == [COUNT] * 2
    yield milliseconds(RESUMED, "open, plan, nothing to do", seconds, bar=2000)
    with merstore.open(work / "s.mer", "a") as store:
        view = declare(store, "lazy", recipes[0])
        filler = view.filler = Filler(clips, recipes[0], jobs=1)
        view.gather(names[:1], on_miss="fill")
        seconds = []
        for name in names[1 : LAZY + 1]:
            started = time.perf_counter()
            view.gather([name], on_miss="fill")
            seconds.append(time.perf_counter() - started)
        filler.close()
    what = "one missing sample filled in gather, read by a process, committed; it decodes and encodes nothing"
    yield milliseconds(RESUMED, what, seconds, bar=10)
    shutil.rmtree(work)


ROW = np.ones(8, np.float32)


class Ready:
    """A recipe that has nothing to read and nothing to compute."""

    modality, encoder_name, dtype, shape, reads = "frame", "none", "float32", (8,), "video"

    def __init__(self, sampling: str) -> None:
        self.sampling = sampling
        self.spec = {"what": "nothing"}

    def request(self, reading: object) -> None:
        return None

    def prepare(self, reading: object) -> int:
        return 1

    def size(self, prepared: int) -> int:
        return prepared

    def encode(self, batch: list[int]) -> list[np.ndarray]:
        return [ROW for _ in batch]
