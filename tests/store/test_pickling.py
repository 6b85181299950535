"""What travels to other processes: a Store is its path and options, a View and a Selection a Store and names."""

import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest

import merstore
from merstore import MerstoreError, Names, Selection, Store, View, errors

PATH = "mer2023/frame@CLIP_VIT_LARGE/uniform_8frms"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    with merstore.open(tmp_path / "s.mer", "w") as store:
        view = store.create_view(PATH, shape=(1000,))
        view.update({f"{i:02}": np.full(1000, i + 1, "f4") for i in range(20)})
    return tmp_path / "s.mer"


def travelled(thing: object) -> object:
    packed = pickle.dumps(thing)
    assert len(packed) < 3000  # no data, no snapshot, no slots
    return pickle.loads(packed)


@pytest.mark.parametrize("mode", ["r", "a"])
def test_a_store(made: Path, mode: str) -> None:
    with merstore.open(made, mode, checksum=True, io="pread") as store:
        other = travelled(store)
        assert isinstance(other, Store)
        assert (other.path, other.mode, other.checksum, other.io) == (
            store.path,
            mode,
            True,
            "pread",
        )
        assert other[PATH]["03"][0] == 4
        other.close()


def test_a_store_that_was_made_is_not_made_again(tmp_path: Path) -> None:
    with merstore.open(tmp_path / "s.mer", "w") as store:
        other = travelled(store)
        assert isinstance(other, Store)
        assert other.mode == "a"
        other.close()


def test_a_view(made: Path) -> None:
    with merstore.open(made) as store:
        view = store[PATH]
        view.gather(["01", "02"])
        other = travelled(view)
        assert isinstance(other, View)
        assert other.gather(["02"])[0, 0] == 3
        other.store.close()


class Filler:
    def fill(self, view: View, names: list[str]) -> None:
        raise AssertionError("never asked")


def test_a_view_takes_its_filler_along(made: Path) -> None:
    with merstore.open(made) as store:
        view = store[PATH]
        view.filler = Filler()
        other = travelled(view)
        assert isinstance(other, View)
        assert isinstance(other.filler, Filler)
        other.store.close()


def test_a_selection(made: Path) -> None:
    with merstore.open(made) as store:
        rows = store[PATH].select(["05", "new", "03"])
        rows.gather([0])
        other = travelled(rows)
        assert isinstance(other, Selection)
        assert isinstance(other.names, Names)
        assert other.gather([2, 0])[:, 0].tolist() == [4, 6]
        assert other.present().tolist() == [True, False, True]
        other.view.store.close()


def test_what_belongs_together_stays_together(made: Path) -> None:
    with merstore.open(made) as store:
        view = store[PATH]
        one, other, rows = pickle.loads(pickle.dumps((view, store, view.select())))
        assert one.store is other
        assert rows.view is one
        other.close()


@pytest.mark.parametrize(
    "error",
    [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MerstoreError)],
)  # fmt: skip
def test_errors(error: type[MerstoreError]) -> None:
    arguments = (
        ("clip.mp4", "no_video", "é: \udcff") if error is errors.DecodeError else ("a/b/c: é",)
    )
    made = error(*arguments)
    copy = pickle.loads(pickle.dumps(made))
    assert type(copy) is error
    assert str(copy) == str(made)
    assert copy.__dict__ == made.__dict__
    assert not str(made).startswith("'")  # a KeyError would quote its message
