"""Dtypes: what may be stored, however it is named or held."""

from typing import Any

import numpy as np
import pytest
import torch
from strategies import DTYPES

from merstore import InvalidTensor
from merstore.store import dtypes


def test_there_are_thirteen() -> None:
    assert tuple(dtypes.CODES) == DTYPES
    assert [dtypes.CODES[name] for name in DTYPES] == list(range(1, 14))


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_by_any_of_its_names(name: str) -> None:
    code = dtypes.CODES[name]
    assert dtypes.code_of(name) == code
    assert dtypes.code_of(getattr(torch, name)) == code
    if name != "bfloat16":
        assert dtypes.code_of(np.dtype(name)) == code
        assert dtypes.code_of(np.dtype(name).newbyteorder(">")) == code
        assert dtypes.code_of(getattr(np, name if name != "bool" else "bool_")) == code


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f4", float, int, bool, "single", np.longlong])
def test_numpys_other_names(dtype: Any) -> None:
    assert dtypes.NAMES[dtypes.code_of(dtype)] == np.dtype(dtype).newbyteorder("=").name.replace(
        "longlong", "int64"
    )


@pytest.mark.parametrize(
    "dtype",
    ["complex64", "object", "U5", "S3", "M8[s]", "V4", "longdouble", "no such", 3, "float8"],
)
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(InvalidTensor, match="float16, bfloat16, float32"):
        dtypes.code_of(dtype)


class TestArrays:
    def stored(self, array: Any) -> tuple[np.ndarray, str]:
        found, code = dtypes.as_stored(array)
        assert found.flags.c_contiguous
        assert found.dtype.isnative
        return found, dtypes.NAMES[code]

    def test_an_array_as_it_lies_is_not_copied(self) -> None:
        array = np.arange(6, dtype="f4").reshape(2, 3)
        found, name = self.stored(array)
        assert found is array
        assert name == "float32"

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(6.0).reshape(2, 3).T,
            np.arange(6.0)[::2],
            np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            np.broadcast_to(np.float64(1), (2, 3)),
            np.arange(6, dtype=">f8").reshape(2, 3),
            np.arange(6, dtype=">f8")[::-2],
        ],
    )
    def test_another_layout_keeps_its_values(self, array: np.ndarray) -> None:
        found, name = self.stored(array)
        assert name == "float64"
        assert found.shape == array.shape
        assert (found == array).all()

    def test_a_scalar_has_no_dimensions(self) -> None:
        found, name = self.stored(np.float32(3))
        assert (found.shape, name) == ((), "float32")
        assert self.stored(3.0)[0].shape == ()

    def test_lists_of_numbers(self) -> None:
        found, name = self.stored([[1.0, 2.0]])
        assert (found.shape, name) == ((1, 2), "float64")

    @pytest.mark.parametrize("name", DTYPES)
    def test_torch_tensors(self, name: str) -> None:
        tensor = torch.arange(6).reshape(2, 3).to(getattr(torch, name))
        for given in (tensor, tensor.T, tensor[:, 0], tensor[0, 0]):
            found, stored = self.stored(given)
            assert stored == name
            if name == "bfloat16":
                found = (found.astype("u4") << 16).astype("u4").view("f4")
            assert np.array_equal(found, given.to(torch.float64).numpy().astype(found.dtype))

    def test_tensors_in_a_graph(self) -> None:
        tensor = torch.ones(3, requires_grad=True)
        assert self.stored(tensor * 2)[0].tolist() == [2, 2, 2]

    @pytest.mark.parametrize(
        "array", [np.array(["a"]), np.array([None]), np.ones(2, "c8"), np.ones(2, "M8[s]")]
    )
    def test_what_is_no_number_is_refused(self, array: np.ndarray) -> None:
        with pytest.raises(InvalidTensor):
            dtypes.as_stored(array)
