"""dtype codes of the format, and NumPy's side of them."""

import sys
from typing import Any

import numpy as np

from merstore.errors import InvalidTensor

# Code (the position) to name. NumPy has no bfloat16 of its own: its bits travel as uint16.
NAMES = (
    "", "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool",
)  # fmt: skip
CODES = {name: code for code, name in enumerate(NAMES) if name}
BFLOAT16 = CODES["bfloat16"]

_NUMPY = {code: np.dtype("uint16" if name == "bfloat16" else name) for name, code in CODES.items()}
_CODE_OF_DTYPE = {_NUMPY[code]: code for code in _NUMPY if code != BFLOAT16}


def code_of(dtype: Any) -> int:
    """The code of a dtype given by name, as a NumPy, torch or ml_dtypes dtype. Raises InvalidTensor
    for others.
    """
    code = _CODE_OF_DTYPE.get(dtype) if isinstance(dtype, np.dtype) else None
    if code is not None:
        return code
    name = str(dtype).removeprefix("torch.")
    if name in CODES:
        return CODES[name]
    try:
        return _CODE_OF_DTYPE[np.dtype(dtype).newbyteorder("=")]
    except (TypeError, KeyError):
        raise InvalidTensor(
            f"dtype {dtype} cannot be stored: use one of {', '.join(CODES)}"
        ) from None


def numpy_dtype(code: int) -> "np.dtype[Any]":
    """The NumPy dtype in which payloads of this code are read; bfloat16 as its bits, uint16."""
    return _NUMPY[code]


def as_stored(array: Any) -> tuple[np.ndarray, int]:
    """An array-like as a C-contiguous little-endian ndarray, and its dtype code. Copies only where
    it must.

    torch tensors are taken from any device; bfloat16 (torch or ml_dtypes) as its bits.
    """
    if hasattr(array, "detach"):  # a torch tensor, without importing torch
        tensor = array.detach().cpu().contiguous()
        if str(tensor.dtype) == "torch.bfloat16":
            return tensor.view(sys.modules["torch"].uint16).numpy(), BFLOAT16
        array = tensor.numpy()
    array = np.asarray(array)
    code = _CODE_OF_DTYPE.get(array.dtype)
    if code is None:
        code = code_of(array.dtype)
        array = (
            array.view(np.uint16)
            if code == BFLOAT16
            else array.astype(array.dtype.newbyteorder("="))
        )
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array).reshape(array.shape)
    return array, code
