"""A tiny AffectGPT with all that it needs, made at random: language model, tokenizer, encoders,
checkpoints of the released format, clips with sound and face tracks. A module, so that other
processes can import it.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import merstore
from merstore.demo.clips import make_clips
from merstore.demo.models import make_checkpoint as make_checkpoint
from merstore.demo.models import make_encoders as make_encoders
from merstore.demo.models import make_llm as make_llm
from merstore.errors import DecodeError, EncoderError
from merstore.extract.reading import Reading
from merstore.models.affectgpt import Settings
from merstore.run.inference import Report, Runner, read_template
from merstore.run.tasks import Task
from merstore.store.store import Store

SUBTITLES = {
    "sample_00000000": "I told you, I do not want to go there again, and I mean it this time.",
    "sample_00000001": "Oh.",
    "sample_00000002": "你好",
    "sample_00000003": "{braces} and, commas",
    "sample_00000004": "That is the best news that I have had for a long, long while!",
    "sample_00000005": "Why?",
}


def make_media(folder: Path, count: int = len(SUBTITLES)) -> Path:
    """``clips/``, ``faces/`` (OpenFace's tracks) and ``texts.csv`` of `count` samples."""
    clips = make_clips(folder / "clips")
    for path in clips[count:]:
        path.unlink()
    draw = np.random.default_rng(0)
    (folder / "faces").mkdir()
    for path in clips[:count]:
        track = draw.integers(0, 256, (12, 112, 112, 3), np.uint8)
        np.save(folder / "faces" / f"{path.stem}.npy", track)
    rows = [f"{name},{json.dumps(text, ensure_ascii=False)}" for name, text in SUBTITLES.items()]
    text = "\n".join(["name,english", *rows[:count]]) + "\n"
    (folder / "texts.csv").write_text(text, encoding="utf-8")
    return folder


VIEWS = {
    "frame": "frame@CLIP_VIT_LARGE/uniform_8frms",
    "face": "face@CLIP_VIT_LARGE/8frms",
    "audio": "audio@HUBERT_LARGE/8clips",
}
WIDTHS = {"frame": 768, "face": 768, "audio": 1024}
SHORT = Settings(max_new_tokens=12, max_length=412)


class World(NamedTuple):
    """Folders of what is made once."""

    llm: Path
    checkpoints: list[Path]


def names_of(count: int) -> list[str]:
    return [f"sample_{number:08d}" for number in range(count)]


def subtitles_of(names: Sequence[str]) -> dict[str, str]:
    """Of different lengths, so that batches are padded."""
    return {name: "and so on " * (7 * int(name[-8:]) % 11) for name in names}


class Drawn:
    """A recipe of features that a clip's number decides, in place of an encoder. Its log shows what
    was really computed, across processes. A clip that holds ``refused`` has no such modality, one
    that holds ``impossible`` the encoder refuses.
    """

    dtype = "float32"
    reads = "video"

    def __init__(self, view: str, log: Path) -> None:
        self.modality, _, rest = view.partition("@")
        self.encoder_name, _, self.sampling = rest.partition("/")
        self.shape = (8, WIDTHS[self.modality])
        self.log = log

    @property
    def spec(self) -> dict[str, Any]:
        return {"what": "drawn", "modality": self.modality}

    def request(self, reading: Reading) -> None:
        return None

    def prepare(self, reading: Reading) -> str:
        path = reading.material.file("video")
        text = path.read_text()
        if "refused" in text:
            raise DecodeError(path, f"no_{self.modality}", "there is none in it")
        return text

    def size(self, prepared: str) -> int:
        return 1

    def encode(self, batch: Sequence[str]) -> list[np.ndarray]:
        if any("impossible" in text for text in batch):
            raise EncoderError("cannot encode this")
        with self.log.open("a") as log:
            log.write("".join(f"{self.modality} {text}\n" for text in batch))
        return [drawn(self.modality, int(text)) for text in batch]


def drawn(modality: str, number: int) -> np.ndarray:
    """The features of a sample's number, ``[8, D]``."""
    draw = np.random.default_rng([WIDTHS[modality], modality == "face", number])
    return draw.standard_normal((8, WIDTHS[modality]), np.float32)


def store_features(
    store: Store, names: Sequence[str], modalities: Sequence[str] = ("face", "audio")
) -> None:
    """Puts features into the views of dataset toy, as `Drawn` would."""
    for modality in modalities:
        recipe = Drawn(VIEWS[modality], Path())
        view = store.create_view(
            f"toy/{VIEWS[modality]}", shape=recipe.shape, spec=recipe.spec, exist_ok=True
        )
        view.update({name: drawn(modality, int(name[-8:])) for name in names})


def write_samples(folder: Path, names: Sequence[str], **odd: str) -> dict[str, Path]:
    """Clips for `Drawn`; those of the names in `odd` hold that text."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / f"{name}.txt" for name in names}
    for name, path in files.items():
        path.write_text(odd.get(name, str(int(name[-8:]))))
    return files


def recipes(log: Path) -> Callable[[str, str], Any]:
    """For a Runner: drawn features, whatever the profile."""
    return lambda view, profile: Drawn(view, log)


def runner(store: Store, world: World, template: str = "full", **options: Any) -> Runner:
    """A Runner of the first checkpoint, on the CPU."""
    given: dict[str, Any] = {"settings": SHORT, "device": "cpu", "jobs": 0, **options}
    checkpoints = given.pop("checkpoints", world.checkpoints[:1])
    return Runner(store, checkpoints, world.llm, read_template(template), **given)


def answer_toy(
    path: Path, world: World, names: Sequence[str], clips: Path, told: Any, batch: int = 1
) -> None:
    """Answers in a process of its own, computing what is missing from the clips in a folder; its
    progress goes to the connection `told`, and its report.
    """
    media = {name: clips / f"{name}.txt" for name in names}
    task = Task("toy", names, subtitles_of(names), materials=media)
    with merstore.open(path, "a") as store:
        asked = runner(
            store,
            world,
            batch=batch,
            recipes=recipes(clips / "log"),
            tell=lambda each: told.send(each.done),
        )
        (report,) = asked.run([task])
    told.send(report)
    told.close()


def counts(report: Report) -> Mapping[str, int]:
    """What became of the samples; only what is not 0."""
    keys = ("present", "known_failures", "answered", "elsewhere", "failures", "without")
    return {key: getattr(report, key) for key in keys if getattr(report, key)}
