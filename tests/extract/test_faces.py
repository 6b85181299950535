"""OpenFace's face tracks, in every state in which they are found, and OpenCV's way to resize."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from merstore.errors import DecodeError
from merstore.extract.faces import read_faces, resize_bilinear

Pixels = npt.NDArray[np.uint8]


def noise(*shape: int) -> Pixels:
    return np.random.default_rng(5).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, array: npt.NDArray, allow_objects: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=allow_objects)
    return path


def refusal(path: Path) -> tuple[str, str]:
    with pytest.raises(DecodeError) as caught:
        read_faces(path)
    assert caught.value.path == str(path)
    return caught.value.kind, caught.value.message


class TestTracks:
    def test_the_faces_are_there_as_they_were_saved(self, tmp_path: Path) -> None:
        track = noise(7, 112, 112, 3)
        path = save(tmp_path / "a.npy", track)
        faces = read_faces(path)
        np.testing.assert_array_equal(faces.pixels, track)
        assert (faces.pixels.dtype, faces.order) == (np.uint8, "BGR")
        assert faces.quality.flags == ()
        assert faces.quality.facts == {
            "faces": 7,
            "height": 112,
            "width": 112,
            "content": xxhash.xxh3_128_hexdigest(path.read_bytes()),
        }

    def test_both_layouts(self, tmp_path: Path) -> None:
        track = noise(2, 8, 8, 3)
        flat = save(tmp_path / "flat" / "a.npy", track)
        save(tmp_path / "nested" / "a" / "a.npy", track)
        np.testing.assert_array_equal(read_faces(flat).pixels, track)
        np.testing.assert_array_equal(read_faces(tmp_path / "nested" / "a").pixels, track)
        np.testing.assert_array_equal(read_faces(tmp_path / "nested" / "a" / "a.npy").pixels, track)

    def test_the_file_is_mapped_and_chosen_faces_are_copied(self, tmp_path: Path) -> None:
        track = noise(5, 8, 6, 3)
        faces = read_faces(save(tmp_path / "a.npy", track))
        assert isinstance(faces.pixels, np.memmap)
        assert not faces.pixels.flags.writeable
        taken = faces.take([4, 0, 0])
        np.testing.assert_array_equal(taken, track[[4, 0, 0]])
        assert (type(taken), taken.flags.writeable) == (np.ndarray, True)
        assert not np.shares_memory(taken, faces.pixels)

    @pytest.mark.parametrize("indices", [[5], [-1], [0, 1, 9]])
    def test_a_rule_that_chooses_what_is_not_there(
        self, tmp_path: Path, indices: list[int]
    ) -> None:
        faces = read_faces(save(tmp_path / "a.npy", noise(5, 8, 8, 3)))
        with pytest.raises(ValueError, match=r"chose .* of 5 faces"):
            faces.take(indices)

    def test_other_layouts_of_the_bytes(self, tmp_path: Path) -> None:
        track = noise(3, 8, 6, 3)
        path = save(tmp_path / "fortran.npy", np.asfortranarray(track))
        np.testing.assert_array_equal(read_faces(path).pixels, track)
        with (tmp_path / "second.npy").open("wb") as file:
            np.lib.format.write_array(file, track, version=(2, 0))
        np.testing.assert_array_equal(read_faces(tmp_path / "second.npy").pixels, track)


class TestRefused:
    def test_gone(self, tmp_path: Path) -> None:
        assert refusal(tmp_path / "a.npy") == ("missing_file", "no such file")

    def test_a_folder_without_a_track(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        kind, message = refusal(tmp_path / "a")
        assert kind == "no_face"
        assert "holds no a.npy" in message

    @pytest.mark.parametrize(
        "empty", [np.array([]), np.zeros((0, 112, 112, 3), np.uint8), np.zeros((0,), np.uint8)]
    )
    def test_a_track_without_faces(self, tmp_path: Path, empty: npt.NDArray) -> None:
        path = save(tmp_path / "a.npy", empty)
        assert refusal(path) == ("no_face", "is a track without a face")

    def test_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        objects = np.array([noise(1, 2, 3), None, Trap()], object)
        kind, message = refusal(save(tmp_path / "a.npy", objects, allow_objects=True))
        assert kind == "decode_error"
        assert "holds Python objects" in message
        assert "Run the face tracking of this clip again" in message
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        ("array", "form"),
        [
            (np.zeros((5, 112, 112, 3), np.float32), "float32 [5, 112, 112, 3]"),
            (np.zeros((5, 112, 112), np.uint8), "uint8 [5, 112, 112]"),
            (np.zeros((5, 3, 112, 112), np.uint8), "uint8 [5, 3, 112, 112]"),
            (np.zeros((5, 112, 0, 3), np.uint8), "uint8 [5, 112, 0, 3]"),
            (np.zeros((), np.uint8), "uint8 []"),
        ],
    )
    def test_what_is_no_track(self, tmp_path: Path, array: npt.NDArray, form: str) -> None:
        kind, message = refusal(save(tmp_path / "a.npy", array))
        assert kind == "decode_error"
        assert f"is {form}, not uint8 [faces, height, width, 3 (BGR)]" in message

    @pytest.mark.parametrize("size", [1, 50, 127, 128, 1000, 5 * 8 * 8 * 3 + 127])
    def test_cut_short(self, tmp_path: Path, size: int) -> None:
        path = save(tmp_path / "a.npy", noise(5, 8, 8, 3))
        path.write_bytes(path.read_bytes()[:size])
        kind, message = refusal(path)
        assert kind == "decode_error"
        assert ("is cut short" if size >= 128 else "is no .npy file") in message

    @pytest.mark.parametrize(
        "content",
        [b"", b"not numpy", b"\x93NUMPY\x01\x00\x0a\x00{'descr': ", b"version https://git-lfs"],
    )
    def test_what_is_no_array(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.npy").write_bytes(content)
        assert refusal(tmp_path / "a.npy")[0] == "decode_error"

    @given(st.binary(max_size=200))
    @settings(max_examples=50)
    def test_whatever_a_header_says(
        self, tmp_path_factory: pytest.TempPathFactory, rest: bytes
    ) -> None:
        path = tmp_path_factory.mktemp("track") / "a.npy"
        path.write_bytes(b"\x93NUMPY\x01\x00" + rest)
        assert refusal(path)[0] == "decode_error"

    @pytest.mark.parametrize("shape", ["(-1, 8, 8, 3)", "(2, -8, -8, 3)", f"({1 << 70}, 8, 8, 3)"])
    def test_impossible_shapes(self, tmp_path: Path, shape: str) -> None:
        said = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
        header = b"\x93NUMPY\x01\x00" + len(said).to_bytes(2, "little") + said.encode()
        (tmp_path / "a.npy").write_bytes(header + bytes(1000))
        assert refusal(tmp_path / "a.npy")[0] == "decode_error"

    def test_an_archive(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", noise(1, 8, 8, 3))
        (tmp_path / "a.npz").rename(tmp_path / "a.npy")
        kind, message = refusal(tmp_path / "a.npy")
        assert kind == "decode_error"
        assert "is no .npy file" in message

    @pytest.mark.shared
    def test_the_real_clips_are_no_tracks(self, shared: Path) -> None:
        for path in sorted((shared / "media").iterdir()):
            assert refusal(path)[0] == "decode_error", path.name


class TestResizing:
    """Bit for bit OpenCV's; 4.6.0 (which AffectGPT pins), 4.12, 4.14 and 5.0 were compared."""

    # cv2.resize of OpenCV 4.6.0.66 of a ramp of 3 x 4 pixels, 0, 23, 46, ...
    RAMP = (np.arange(12, dtype=np.uint8) * 23).reshape(1, 3, 4, 1)

    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ((2, 2), [[34, 80], [172, 218]]),
            (
                (5, 7),
                [
                    [0, 8, 21, 34, 48, 61, 69],
                    [37, 45, 58, 71, 84, 97, 106],
                    [92, 100, 113, 127, 140, 153, 161],
                    [147, 155, 168, 182, 195, 208, 216],
                    [184, 192, 205, 218, 232, 245, 253],
                ],
            ),
        ],
    )
    def test_a_vector(self, size: tuple[int, int], expected: list[list[int]]) -> None:
        assert resize_bilinear(self.RAMP, size)[0, :, :, 0].tolist() == expected

    @pytest.mark.parametrize("before", [(112, 112), (448, 448), (224, 112), (448, 224), (97, 300)])
    def test_to_the_224_of_affectgpt_it_is_opencvs(self, before: tuple[int, int]) -> None:
        cv2 = pytest.importorskip("cv2")
        pixels = noise(2, *before, 3)
        expected = np.stack([cv2.resize(picture, (224, 224)) for picture in pixels])
        np.testing.assert_array_equal(resize_bilinear(pixels, (224, 224)), expected)

    sides = st.integers(1, 70)

    @given(st.tuples(sides, sides), st.tuples(sides, sides), st.sampled_from([1, 3]), st.data())
    @settings(max_examples=200)
    def test_of_any_size_it_is_opencvs(
        self, before: tuple[int, int], after: tuple[int, int], channels: int, data: st.DataObject
    ) -> None:
        cv2 = pytest.importorskip("cv2")
        seed = data.draw(st.integers(0, 1000))
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (1, *before, channels), dtype=np.uint8)
        expected = cv2.resize(pixels[0], after[::-1]).reshape(*after, channels)
        np.testing.assert_array_equal(resize_bilinear(pixels, after)[0], expected)

    def test_half_the_size_is_the_mean_of_four(self) -> None:
        four = np.array([[1, 2], [3, 4]], np.uint8).reshape(1, 2, 2, 1)
        assert resize_bilinear(four, (1, 1)).item() == 3  # 2.5, rounded up

    def test_the_same_size_is_a_copy(self) -> None:
        pixels = noise(2, 8, 8, 3)
        resized = resize_bilinear(pixels, (8, 8))
        np.testing.assert_array_equal(resized, pixels)
        assert not np.shares_memory(resized, pixels)

    def test_each_picture_is_resized_alone(self) -> None:
        """So that resizing a whole track before sampling, as AffectGPT does, is to resize the
        chosen ones.
        """
        pixels = noise(6, 112, 112, 3)
        whole = resize_bilinear(pixels, (224, 224))
        np.testing.assert_array_equal(resize_bilinear(pixels[[5, 2]], (224, 224)), whole[[5, 2]])
