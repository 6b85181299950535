"""Folds: sizes, what is held out, and what makes none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.errors import MerstoreError
from merstore.run.training.folds import check, fixed_split, random_folds, session_folds

from . import reference_baseline as reference


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (5030, [1006] * 5),
        (3373, [674] * 4 + [677]),
        (7369, [1473] * 4 + [1477]),
        (9395, [1879] * 5),
    ],
)
def test_folds_have_the_known_sizes(count: int, sizes: list[int]) -> None:
    assert [len(fold.held) for fold in random_folds(count, 5, seed=0)] == sizes


@given(st.integers(2, 60), st.integers(2, 9), st.integers(0, 99))
def test_every_row_is_held_out_once_and_learned_from_otherwise(
    count: int, folds: int, seed: int
) -> None:
    if count < folds:
        with pytest.raises(MerstoreError, match="make no"):
            random_folds(count, folds, seed)
        return
    made = random_folds(count, folds, seed)
    assert sorted(row for fold in made for row in fold.held) == list(range(count))
    for fold, (train, held) in zip(made, reference.folds_of(count, folds, seed), strict=True):
        assert fold.held.tolist() == held
        assert fold.train.tolist() == train


def test_each_session_is_left_out_once() -> None:
    made = session_folds(["session2", "session1", "session2", "session3"], part="held")
    assert [(f.name, f.train.tolist(), f.part, f.held.tolist()) for f in made] == [
        ("session1", [0, 2, 3], "held", [1]),
        ("session2", [1, 3], "held", [0, 2]),
        ("session3", [0, 1, 2], "held", [3]),
    ]
    with pytest.raises(MerstoreError, match="one session"):
        session_folds(["session1"] * 3)


@pytest.mark.parametrize(
    ("emos", "told"),
    [([0, 0, 0, 0, 1, 1], "of one class only"), ([0, 1, 0, 1, -1, 1], "of one class only")],
)
def test_a_fold_with_one_class_is_refused(emos: list[int], told: str) -> None:
    made = session_folds(["a", "a", "a", "a", "b", "b"])
    with pytest.raises(MerstoreError, match=told):
        check(made, {"train": np.array(emos)}, classes=2)
    check(made, {"train": np.array(emos)}, classes=0)


def test_an_empty_validation_split_is_refused() -> None:
    with pytest.raises(MerstoreError, match="holds out no sample"):
        check(fixed_split(3, 0), {"train": np.zeros(3, int), "val": np.zeros(0, int)}, 0)
