import pytest

from merstore.cli import console


@pytest.mark.parametrize(
    ("nbytes", "told"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3 GiB"), (5 << 40, "5 TiB")],
)
def test_sizes_are_binary(nbytes: int, told: str) -> None:
    assert console.size(nbytes) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0012, "0.0012 s"), (42, "42 s"), (61, "1 min 01 s"), (7500, "2 h 05 min"), (3e5, "3 days")],
)
def test_durations(seconds: float, told: str) -> None:
    assert console.duration(seconds) == told


@pytest.mark.parametrize(
    ("n", "told"), [(0.333, "0.33"), (9.4, "9.4"), (840.4, "840"), (3_216_727, "3,220,000")]
)
def test_measured_numbers_have_three_digits(n: float, told: str) -> None:
    assert console.number(n) == told


def test_a_table_is_aligned_by_what_a_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(["NAME", "N"], [["中文", "1"], ["a", "100"]], right="N")
    assert capsys.readouterr().out.splitlines() == ["NAME    N", "中文    1", "a     100"]


def test_progress_is_silent_where_stderr_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with console.progress("working", "files") as report:
        report(1, 2)
    assert capfd.readouterr() == ("", "")
