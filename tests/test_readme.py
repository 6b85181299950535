"""The README's example runs as it is written."""

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parent.parent / "README.md"


def _blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_the_first_example_is_short_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    example = _blocks()[0]
    assert len([line for line in example.splitlines() if line.strip()]) <= 22
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    names["store"].close()  # type: ignore[attr-defined]
    out = capsys.readouterr().out
    assert "[ True False]" in out
    assert "no_video" in out
    assert "torch.Size([256, 8, 768])" in out


def test_the_third_example_trains_from_what_the_first_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for example in (_blocks()[0], _blocks()[2]):
        exec(compile(example, "README.md", "exec"), names)
    batch, state = names["batch"], names["state"]
    assert batch["audio"].shape[1:] == (59, 1024)  # type: ignore[index]
    assert state["epoch"] == 1  # type: ignore[index]
    names["store"].close()  # type: ignore[attr-defined]


@pytest.mark.shared
def test_the_second_example_fills_on_real_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    example = _blocks()[1]
    example = example.replace("path/to/dinov2-small", str(shared / "models" / "dinov2-small"))
    example = example.replace("path/to/clips", str(shared / "media"))
    example = example.replace("sample_00000003", "odd_two_frames")
    import merstore

    with merstore.open("features.mer", "a") as store:
        names: dict[str, object] = {"store": store}
        exec(compile(example, "README.md", "exec"), names)
        batch = names["batch"]
        assert batch.shape == (1, 8, 384)  # type: ignore[attr-defined]
        assert batch.mask.all()  # type: ignore[attr-defined]
        assert "mer2023/frame@dinov2-small/uniform_8frms" in store
        del batch, names
