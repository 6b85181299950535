"""Reads OpenFace face tracks (``.npy``) and resizes faces as AffectGPT does.

A track is what MERTools' packer saves of the aligned pictures that OpenFace cuts out of a clip: read
with OpenCV in the order of their file names, so in BGR, and without the numbers of the frames that
they are of. It is mapped, not read: of a long track only the frames that a rule chooses are copied.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from merstore.errors import DecodeError
from merstore.extract.files import check_file, content_digest
from merstore.quality import Quality

Pixels = npt.NDArray[np.uint8]


class Faces(NamedTuple):
    """A face track. ``pixels``: uint8 [N, H, W, 3], read-only where it is a mapped file.

    ``order``: of the colours, ``"BGR"``, in which OpenCV saves what OpenFace writes. ``quality``:
    the facts are ``faces`` (N), ``height``, ``width`` and ``content``; those of a detected track are
    at `face_detection.detect_faces`.
    """

    pixels: Pixels
    order: str
    quality: Quality

    def take(self, indices: Sequence[int]) -> Pixels:
        """A copy of the faces with these numbers, from 0: uint8 [len(indices), H, W, 3].

        Raises ValueError where there is none with that number.
        """
        chosen = [int(index) for index in indices]
        if not all(0 <= index < len(self.pixels) for index in chosen):
            raise ValueError(f"the sampling rule chose {chosen} of {len(self.pixels)} faces")
        return np.ascontiguousarray(self.pixels[chosen])


def read_faces(path: str | os.PathLike[str]) -> Faces:
    """The face track at `path`: a ``.npy`` file, or a sample's folder that holds one of its name.

    That is both layouts: ``openface_face/NAME.npy`` and ``openface_face/NAME/NAME.npy``.

    Raises DecodeError with the kind ``missing_file`` (no such file), ``no_face`` (a track of no
    faces; a folder without a track, which is what MERTools leaves of a clip without a face) or
    ``decode_error`` (empty, cut short, not a ``.npy`` file, not uint8 [N, H, W, 3]).
    """
    path = Path(path)
    if path.is_dir():
        folder, path = path, path / f"{path.name}.npy"
        if not path.exists():
            reason = f"holds no {path.name}: no face was found, or the tracking was interrupted"
            raise DecodeError(folder, "no_face", reason)
    check_file(path)
    try:
        with path.open("rb") as file:
            shape, fortran, dtype = _header(file)
            start, size = file.tell(), file.seek(0, os.SEEK_END)
        _check_form(path, shape, dtype)
        if size < start + math.prod(shape):
            reason = f"is cut short: {size:,} of {start + math.prod(shape):,} bytes. {_AGAIN}"
            raise DecodeError(path, "decode_error", reason)
        order = "F" if fortran else "C"
        pixels = np.memmap(path, np.uint8, "r", start, shape, order)  # type: ignore[call-overload]
    except ValueError as error:
        raise DecodeError(path, "decode_error", f"is no .npy file: {error}") from error
    except OSError as error:
        raise DecodeError(path, "decode_error", f"cannot be read: {error.strerror}") from error
    facts = {"faces": shape[0], "height": shape[1], "width": shape[2]}
    return Faces(pixels, "BGR", Quality((), {**facts, "content": content_digest(path)}))


_AGAIN = "Run the face tracking of this clip again"


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and dtype. Raises ValueError."""
    version = np.lib.format.read_magic(file)
    if version not in {(1, 0), (2, 0)}:
        raise ValueError(f"version {version} of the format is not that of an array of pictures")
    try:
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # numpy parses it as Python, and lets that parser's errors through
        raise ValueError(f"its header cannot be understood: {error}") from error


def _check_form(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if dtype.hasobject:
        reason = "holds Python objects: pictures of several sizes, or one that could not be read"
        raise DecodeError(path, "decode_error", f"{reason}. {_AGAIN}")
    if shape[:1] == (0,):
        raise DecodeError(path, "no_face", "is a track without a face")
    if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or min(shape) < 1:
        form = f"{dtype} {list(shape)}"
        reason = f"is {form}, not uint8 [faces, height, width, 3 (BGR)] as OpenFace's pictures give"
        raise DecodeError(path, "decode_error", reason)


_BITS = 11  # of the weights
_ONE = 1 << _BITS


def resize_bilinear(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """The pictures at another `size` (height, width): uint8 [N, H, W, C] -> [N, height, width, C].

    Bit for bit ``cv2.resize(picture, (width, height))`` of OpenCV 4, whose default is bilinear: no
    smoothing where it shrinks, weights of 11 bits, and the rounding of its vertical pass, which
    drops 4 bits first. To exactly half the size, OpenCV averages four pixels instead.

    Source: modules/imgproc/src/resize.cpp (HResizeLinear, VResizeLinear, ResizeAreaFast).
    """
    height, width = size
    if pixels.shape[1:3] == (height, width):
        return pixels.copy()
    resized = np.empty((len(pixels), height, width, pixels.shape[3]), np.uint8)
    if pixels.shape[1:3] == (2 * height, 2 * width):
        for picture, out in zip(pixels, resized, strict=True):
            four = picture.astype(np.uint16)
            rows = four[::2] + four[1::2]
            out[:] = (rows[:, ::2] + rows[:, 1::2] + 2) >> 2
        return resized
    column, weight = _weights(pixels.shape[2], width)
    # At the left and right edge the outermost pixel counts alone; at the top and bottom it counts
    # as both neighbours, which rounds otherwise.
    weight[(column < 0) | (column >= pixels.shape[2] - 1)] = (_ONE, 0)
    left, right = (np.clip(column + side, 0, pixels.shape[2] - 1) for side in (0, 1))
    row, share = _weights(pixels.shape[1], height)
    above, below = (np.clip(row + side, 0, pixels.shape[1] - 1) for side in (0, 1))
    weight, share = weight[:, :, None], share[:, :, None, None]
    for picture, out in zip(pixels, resized, strict=True):
        wide = picture.astype(np.int32)
        wide = (wide[:, left] * weight[:, 0] + wide[:, right] * weight[:, 1]) >> 4
        upper, lower = wide[above] * share[:, 0] >> 16, wide[below] * share[:, 1] >> 16
        out[:] = (upper + lower + 2) >> 2
    return resized


def _weights(before: int, after: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Of each pixel after: the number of the first of the two before, and the weights of both."""
    scale = 1 / (after / before)
    place = ((np.arange(after) + 0.5) * scale - 0.5).astype(np.float32)
    first = np.floor(place)
    second_weight = place - first
    weights = np.stack([np.float32(1) - second_weight, second_weight], axis=1)
    return first.astype(np.int64), np.rint(weights * np.float32(_ONE)).astype(np.int32)
