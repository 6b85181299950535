"""The table that finds the rows of a batch's names: a dict, by any measure but time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from merstore._core import NameRows

few = st.text(alphabet="ab", max_size=4)  # often the same
names = st.one_of(few, st.text(max_size=20))


@given(st.lists(st.lists(names, max_size=300), max_size=5))
def test_it_is_a_dict(batches: list[list[str]]) -> None:
    table, model = NameRows(), dict[str, int]()
    for batch in batches:
        rows = np.empty(len(batch), np.int64)
        assert table.rows(batch, rows) == all(name in model for name in batch)
        assert rows.tolist() == [model.get(name, -1) for name in batch]
        for name in batch:
            if name not in model:
                table.add(name)
                model[name] = len(model)
        equal = ["".join(name) for name in batch]  # other objects
        assert table.rows(equal, rows)
        assert rows.tolist() == [model[name] for name in batch]


def test_it_grows() -> None:
    names = [f"sample_{i:08d}" for i in range(100_000)]
    table, rows = NameRows(), np.empty(len(names), np.int64)
    for name in names:
        table.add(name)
    assert table.rows(names, rows)
    assert np.array_equal(rows, np.arange(len(names)))


def test_what_is_no_text_has_no_row() -> None:
    table, rows = NameRows(), np.empty(3, np.int64)
    table.add("a")
    assert not table.rows(["a", 1, ["a"]], rows)  # type: ignore[list-item]
    assert rows.tolist() == [0, -1, -1]
