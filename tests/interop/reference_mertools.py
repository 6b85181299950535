"""What MERTools' reader and datasets do, one sample after the other, over a tree of ``.npy`` files.

Written from the description of the behaviour, with NumPy alone and no thought of speed: it is what
`merstore.interop.mertools` is held to.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def read_one(root: str | os.PathLike[str], name: str) -> Array:
    path = os.path.join(root, f"{name}.npy")
    folder = os.path.join(root, name)
    if os.path.exists(path):
        parts = [np.load(path).squeeze()]
    elif os.path.isdir(folder):
        parts = [np.load(os.path.join(folder, frame)) for frame in sorted(os.listdir(folder))]
    else:
        raise FileNotFoundError(path)
    array = np.array(parts).squeeze()
    if len(array) == 0:
        print(f"empty: {path}")
        return array
    if len(array.shape) == 1:
        return array[np.newaxis, :]
    return array


def read(root: str | os.PathLike[str], names: Sequence[str]) -> tuple[list[Array], int]:
    arrays = [read_one(root, name) for name in names]
    return arrays, arrays[0].shape[-1]


def map_to(x: Array, length: int) -> Array:
    total, dim = x.shape
    if total == length:
        return x
    if total < length:
        return np.concatenate([np.zeros((length - total, dim)), x])
    block = total // length
    if total % length:
        block += 1
        x = np.concatenate([np.zeros((length - total % length, dim)), x])
    return np.mean(x.reshape(length, block, dim), axis=1)


def split(roots: Sequence[Path], names: Sequence[str], feat_type: str, scale: int) -> list[Array]:
    """Each role as float32: ``(N, D)`` or ``(N, L, D)``."""
    roles = [read(root, names)[0] for root in roots]
    roles = [[map_to(x, math.ceil(len(x) / scale)) for x in role] for role in roles]
    if feat_type == "utt":
        return [np.array([np.mean(x, axis=0) for x in role]).astype(np.float32) for role in roles]
    audios, texts, videos = roles
    if feat_type == "frm_align":
        audios = [map_to(a, len(t)) for a, t in zip(audios, texts, strict=True)]
        videos = [map_to(v, len(t)) for v, t in zip(videos, texts, strict=True)]
    padded = []
    for role in (audios, texts, videos):
        longest = max(len(x) for x in role)
        padded.append(np.array([map_to(x, longest) for x in role]).astype(np.float32))
    return padded
