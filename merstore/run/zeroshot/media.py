"""What a baseline is shown of a sample: frames by its policy, sound at its rate. Decoded in reading
processes, or read from the store where it is kept there.
"""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from merstore.errors import CorruptEntry, DecodeError
from merstore.extract import sound, video
from merstore.extract.material import Material
from merstore.extract.processes import SECONDS, Readers
from merstore.extract.reading import Read, Reading, Refusal
from merstore.extract.recipes import Recipe
from merstore.fill.engine import Clip
from merstore.fill.filler import declare
from merstore.fill.plan import path_of
from merstore.run.zeroshot import policies
from merstore.run.zeroshot.baselines import Sound
from merstore.store.store import Store
from merstore.store.view import View


class Shown(NamedTuple):
    """``frames``: uint8 ``[T, H, W, 3]``, RGB; ``seconds``: when each is shown, float64 ``[T]``."""

    frames: npt.NDArray[np.uint8]
    seconds: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Looking:
    """Frames of a clip as they are, chosen by a policy; as a recipe of views. An entry is a file of
    safetensors (uint8 ``[N]``) with ``frames`` and ``seconds`` in it: clips differ in size.
    """

    policy: str

    modality = "frame"
    encoder_name = "rgb"
    dtype = "uint8"
    shape = (None,)
    reads = "video"

    def __post_init__(self) -> None:
        policies.check(self.policy)

    @property
    def sampling(self) -> str:
        return self.policy

    @property
    def spec(self) -> dict[str, Any]:
        told = {"kind": "media", "format": "safetensors", "policy": self.policy}
        return told | {"frames": video.VERSION}

    def request(self, reading: Reading) -> None:
        """It plays the clip: a policy goes by the rate of its frames."""
        return

    def prepare(self, reading: Reading) -> Shown:
        path = reading.material.file("video")
        played = video.play_clip(path)
        reading.quality["video"] = played.quality
        facts = played.quality.facts
        chosen = policies.indices(self.policy, facts["frames"], facts["fps"])
        wanted = set(chosen)
        pictures = {
            index: picture.copy()
            for index, picture in enumerate(islice(played.pictures, max(chosen) + 1))
            if index in wanted
        }
        if len({picture.shape for picture in pictures.values()}) > 1:
            raise DecodeError(path, "decode_error", "its pictures change size in the middle")
        return Shown(
            np.stack([pictures[index] for index in chosen]),
            np.array([_seconds(played, index) for index in chosen]),
        )

    def size(self, prepared: Shown) -> int:
        return len(prepared.frames)

    def encode(self, batch: Iterable[Shown]) -> list[np.ndarray]:
        from safetensors.numpy import save

        files = (save({"frames": each.frames, "seconds": each.seconds}) for each in batch)
        return [np.frombuffer(file, np.uint8) for file in files]

    def decode(self, entry: npt.NDArray[Any]) -> Shown:
        """What an entry was made of. Raises ValueError where it is none."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            read = load(entry.tobytes())
            return Shown(read["frames"], read["seconds"])
        except (SafetensorError, KeyError) as error:
            raise ValueError(str(error)) from error


def _seconds(played: video.Played, index: int) -> float:
    if played.times is not None:
        return float(played.times[index])
    return index / (played.quality.facts["fps"] or 1.0)


@dataclass(frozen=True)
class Listening:
    """The sound of a clip, as a recipe of views. An entry is float32 ``[N]``."""

    part: Sound

    modality = "audio"
    dtype = "float32"
    shape = (None,)
    reads = "audio"

    @property
    def encoder_name(self) -> str:
        rate = self.part.rate
        return f"wave{rate // 1000}k" if rate % 1000 == 0 else f"wave{rate}"

    @property
    def sampling(self) -> str:
        part = self.part
        return part.channel if part.seconds is None else f"{part.channel}_{part.seconds:g}s"

    @property
    def spec(self) -> dict[str, Any]:
        return {"kind": "media", **asdict(self.part), "sound": sound.VERSION}

    def request(self, reading: Reading) -> None:
        return

    def prepare(self, reading: Reading) -> npt.NDArray[np.float32]:
        heard, part = reading.sound(), self.part
        one = sound.mono_mean(heard.samples) if part.channel == "mean" else heard.samples[0]
        made = heard._replace(samples=one[np.newaxis]).resampled(part.rate).samples[0]
        most = len(made) if part.seconds is None else round(part.seconds * part.rate)
        return np.ascontiguousarray(made[:most])

    def size(self, prepared: npt.NDArray[np.float32]) -> int:
        return len(prepared)

    def encode(self, batch: Iterable[npt.NDArray[np.float32]]) -> list[np.ndarray]:
        return list(batch)

    def decode(self, entry: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return np.array(entry)


Kind = Looking | Listening


class Given(NamedTuple):
    """What became of a sample's media: what each recipe gives, by modality, or why there is none;
    ``lacking``: the modality of what is not in the store while nothing says where to read it.
    """

    found: dict[str, Any]
    refused: Refusal | None = None
    lacking: str | None = None


class Media:
    """The media of one dataset's samples, as `kinds` are made of them.

    store: where they may be kept already. materials: what there is of each sample; None: all is in
    the store. keep: put into the store what was decoded. retry: failure kinds to try again, of what
    is kept.

    ``decoded``, ``read``: samples whose media were decoded in this run, or read from the store.
    """

    def __init__(
        self,
        store: Store,
        dataset: str,
        kinds: Iterable[Kind],
        materials: Mapping[str, Clip] | None,
        *,
        keep: bool = False,
        retry: Iterable[str] = (),
        readers: Readers | None = None,
    ) -> None:
        self.kinds = list(kinds)
        self.decoded = self.read = 0
        self._store = store
        self._materials = materials
        self._retry = set(retry)
        self._readers = readers or Readers(1, SECONDS)
        self._kept: dict[Kind, View] = {}
        for kind in self.kinds:
            path = path_of(dataset, kind)
            if keep:
                self._kept[kind] = declare(store, dataset, kind)
            elif path in store:
                self._kept[kind] = store.view(path, kind.spec)
        self._keep = keep

    def begin(self, name: str) -> Callable[[], Given]:
        """Begin to read a sample; what is returned waits for it, in the thread that may write."""
        found: dict[str, Any] = {}
        wanted: list[Kind] = []
        for kind in self.kinds:
            kept = self._stored(kind, name)
            if isinstance(kept, Refusal):
                return lambda: Given({}, kept)
            if kept is None:
                wanted.append(kind)
            else:
                found[kind.modality] = kept
        if not wanted:
            self.read += bool(found)
            return lambda: Given(found)
        if self._materials is None:
            return lambda: Given({}, lacking=wanted[0].modality)
        try:
            material = material_of(self._materials, name)
        except KeyError:
            gone = Refusal("missing_file", "no clip of this name among those given")
            return lambda: Given({}, gone)
        pending = self._readers.submit(wanted, material)
        return lambda: self._end(name, found, wanted, pending)

    def _stored(self, kind: Kind, name: str) -> Any:
        view = self._kept.get(kind)
        if view is None:
            return None
        if name in view:
            try:
                return kind.decode(view[name])
            except ValueError:
                where = f"{view.path}/{name}"
                raise CorruptEntry(f"{where} is no file of safetensors: delete it") from None
        failure = view.failure(name)
        if failure is None or failure.kind in self._retry or "all" in self._retry:
            return None
        return Refusal(failure.kind, failure.message)

    def _end(
        self, name: str, found: dict[str, Any], wanted: list[Kind], pending: Future[Read]
    ) -> Given:
        try:
            results = pending.result().results
        except MemoryError as error:
            results = [Refusal("out_of_memory", f"its media: {error}")] * len(wanted)
        if self._keep:
            with self._store.writer() as writer:
                for kind, result in zip(wanted, results, strict=True):
                    if isinstance(result, Refusal):
                        writer.fail(self._kept[kind], name, *result)
                    else:
                        (entry,) = kind.encode([result])
                        writer.put(self._kept[kind], name, entry)
        for kind, result in zip(wanted, results, strict=True):
            if isinstance(result, Refusal):
                return Given({}, result)
            found[kind.modality] = result
        self.decoded += 1
        return Given(found)

    def close(self) -> None:
        self._readers.close()


def material_of(materials: Mapping[str, Clip], name: str) -> Material:
    """Raises KeyError."""
    material = materials[name]
    return material if isinstance(material, Material) else Material.of_clip(name, Path(material))


if TYPE_CHECKING:  # what they are, for whoever fills views of them
    _RECIPES: list[Recipe] = [Looking(""), Listening(Sound(16_000))]
