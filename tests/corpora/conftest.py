"""Made-up corpora in the folder layouts of the field."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Rows = Sequence[Sequence[str]]


def boxed(value: Any) -> np.ndarray:
    """An array of one object."""
    array = np.empty((), object)
    array[()] = value
    return array


def write_npz(path: Path, **arrays: Any) -> None:
    """As the toolkits do: every array is one dict, pickled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{name: boxed(value) for name, value in arrays.items()})


def write_csv(path: Path, rows: Rows, encoding: str = "utf-8") -> None:
    """CRLF lines, quotes where a cell needs them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    quoted = [
        ",".join(f'"{c.replace(chr(34), chr(34) * 2)}"' if set(c) & set('",\n') else c for c in row)
        for row in rows
    ]
    path.write_bytes("".join(f"{line}\r\n" for line in quoted).encode(encoding))


def write_media(root: Path, pattern: str, names: Sequence[str]) -> None:
    for name in names:
        path = root / pattern.replace("{name}", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"some bytes")


@pytest.fixture
def mer2023(tmp_path: Path) -> Path:
    """The root of a small MER2023, complete, in AffectGPT's layout."""
    root = tmp_path / "mer2023-dataset-process"
    train = {
        "sample_00000002": {"emo": "happy", "val": 2.25},
        "sample_00000001": {"emo": "angry", "val": np.float64(-3.5)},
    }
    tests: dict[str, Mapping[str, Any]] = {
        "test1": {"sample_00000003": {"emo": "sad", "val": np.float32(-0.1)}},
        "test2": {"sample_00000004": {"emo": "worried", "val": 0}},
        "test3": {"samplenew_00000005": {"emo": "surprise", "val": -10}},
    }
    arrays = {f"{split}_corpus": labels for split, labels in tests.items()}
    write_npz(root / "label-6way.npz", train_corpus=train, **arrays)
    names = [*train, *(name for labels in tests.values() for name in labels)]
    texts = [[name, f"第{n}句，好。", f'line {n}, "said"'] for n, name in enumerate(names)]
    write_csv(root / "transcription-engchi-polish.csv", [["name", "chinese", "english"], *texts])
    write_media(root, "video/{name}.mp4", names[:-1])
    write_media(root, "video/{name}.avi", names[-1:])
    write_media(root, "audio/{name}.wav", names)
    write_media(root, "openface_face/{name}.npy", names)
    return root


MakeTable = Callable[[str], Path]


@pytest.fixture
def declare(tmp_path: Path) -> MakeTable:
    """Writes a YAML file of corpora."""

    def write(text: str) -> Path:
        path = tmp_path / "own.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
