"""Reading a sample once for all recipes that need it. This is what runs in the reading processes."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from merstore.errors import DecodeError
from merstore.extract import mer_factory
from merstore.extract.material import Material
from merstore.extract.recipes import Prepared, Recipe
from merstore.quality import FLAGS, Quality

if TYPE_CHECKING:
    from merstore.extract.face_detection import FaceDetector
    from merstore.extract.faces import Faces
    from merstore.extract.sound import Sound
    from merstore.extract.video import Clip, FrameRequest, Frames

_T = TypeVar("_T")


class Refusal(NamedTuple):
    """Why a sample has no entry in a view: the failure record that is to be."""

    kind: str
    message: str


class Read(NamedTuple):
    """What became of a sample: a result per recipe, and what was seen of each medium on the way."""

    results: list[Prepared | Refusal]
    quality: dict[str, Quality]


class Reading:
    """One sample's media and texts, each read when it is first asked for and then kept.

    All raise DecodeError, again and without reading again where it was raised before.
    """

    def __init__(self, material: Material) -> None:
        self.material = material
        self.quality: dict[str, Quality] = {}
        self._requests: list[FrameRequest] = []
        self._kept: dict[str, object] = {}

    def expect(self, request: "FrameRequest") -> None:
        """Has the frames of one more request decoded together with the others."""
        self._requests.append(request)

    def frames(self, request: "FrameRequest") -> "Frames":
        """The frames of a request that was announced."""
        frames = self._once("video", self._read_clip).frames[self._requests.index(request)]
        if isinstance(frames, DecodeError):
            raise frames
        return frames

    def sound(self, source: str = "native") -> "Sound":
        """The sound, by one of the ways of `sound.read_sound`."""
        return self._once(f"audio {source}", lambda: self._read_sound(source))

    def faces(self, detector: "FaceDetector | None" = None) -> "Faces":
        """The face track; where there is none, what `detector` finds in the clip, if it is given."""
        if detector is None or self.material.face is not None:
            return self._once("face", self._read_faces)
        return self._once(f"face {detector.spec()}", lambda: self._detect_faces(detector))

    def text(self) -> str:
        """The transcript."""
        return self._once("text", self._read_text)

    def analysis(self) -> "mer_factory.Analysis":
        """MER-Factory's analysis."""
        return self._once("au", lambda: mer_factory.read(self.material.file("au")))

    def _once(self, what: str, read: Callable[[], _T]) -> _T:
        if what not in self._kept:
            try:
                self._kept[what] = read()
            except DecodeError as error:
                self._kept[what] = error
                medium = what.partition(" ")[0]
                flag = "missing" if error.kind.startswith("missing_") else error.kind
                flag = flag if flag in FLAGS else "unreadable"
                self.quality.setdefault(medium, Quality((flag,), {}))
        kept = self._kept[what]
        if isinstance(kept, DecodeError):
            raise kept
        return kept  # type: ignore[return-value]

    def _read_clip(self) -> "Clip":
        from merstore.extract.video import read_clip

        clip = read_clip(self.material.file("video"), self._requests)
        self.quality["video"] = clip.quality
        return clip

    def _read_sound(self, source: str) -> "Sound":
        from merstore.extract.sound import read_sound

        sound = read_sound(self.material.file("audio"), source)
        self.quality["audio"] = sound.quality
        return sound

    def _read_faces(self) -> "Faces":
        from merstore.extract.faces import read_faces

        faces = read_faces(self.material.file("face"))
        self.quality["face"] = faces.quality
        return faces

    def _detect_faces(self, detector: "FaceDetector") -> "Faces":
        from merstore.extract.face_detection import detect_faces

        faces = detect_faces(self.material.file("video"), detector)
        self.quality["face"] = faces.quality
        return faces

    def _read_text(self) -> str:
        from merstore.extract.transcript import check_text

        text = self.material.transcript()
        self.quality["text"] = check_text(text, self.material.language)
        return text


def read(material: Material, recipes: Sequence[Recipe]) -> Read:
    """Everything that `recipes` need of a sample; its clip is decoded once for all of them.

    What one recipe cannot use, or fails on, does not touch the others.
    """
    reading = Reading(material)
    results: list[Prepared | Refusal] = [None] * len(recipes)
    readable = []
    for place, recipe in enumerate(recipes):
        try:
            request = recipe.request(reading)
        except Exception as error:  # noqa: BLE001 - see _refusal
            results[place] = _refusal(error)
            continue
        if request is not None:
            reading.expect(request)
        readable.append(place)
    for place in readable:
        try:
            results[place] = recipes[place].prepare(reading)
        except Exception as error:  # noqa: BLE001 - see _refusal
            results[place] = _refusal(error)
    return Read(results, reading.quality)


def _refusal(error: Exception) -> Refusal:
    """A run goes on, whatever a file makes a decoder do. A package that is not there is no fault of
    the file: that is raised.
    """
    if isinstance(error, ImportError):
        raise error
    if isinstance(error, DecodeError):
        return Refusal(error.kind, error.message)
    return Refusal("decode_error", f"cannot be read: {type(error).__name__}: {error}")
