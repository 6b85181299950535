"""The log of a prewarm: whole lines, whatever happens to whoever writes them."""

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore import MerstoreError
from merstore.fill.log import Log, read_log

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.jsonl"


def test_each_event_is_a_line_of_json_at_once(path: Path) -> None:
    with Log(path) as log:
        log.write("plan", views={"a/b/c": {"samples": 3}}, shard=None)
        log.write("failure", view="a/b/c", sample="中 \u2028\n", kind="no_face", message="é")
        lines = path.read_bytes().split(b"\n")
        assert [json.loads(line)["event"] for line in lines[:-1]] == ["plan", "failure"]
        assert lines[-1] == b""
    plan, failure = read_log(path)
    assert plan["views"] == {"a/b/c": {"samples": 3}}
    assert failure["sample"] == "中 \u2028\n"
    assert plan["run"] == failure["run"]
    assert datetime.fromisoformat(plan["time"]).tzinfo == UTC


@given(values)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    with Log(path) as log:
        log.write("progress", value=value)
    assert read_log(path)[0]["value"] == value


def test_values_without_a_json_form(path: Path) -> None:
    with Log(path) as log:
        log.write("progress", nan=math.nan, inf=[math.inf], path=Path("a/b"), numpy=np.float32(0.5), many=(1, 2),
                  raw="\udcff", array=np.arange(2))  # fmt: skip
    (event,) = read_log(path)
    told = {key: event[key] for key in ("nan", "inf", "path", "numpy", "many", "raw", "array")}
    assert told == {"nan": None, "inf": [None], "path": "a/b", "numpy": 0.5, "many": [1, 2], "raw": "\udcff",
                    "array": "[0 1]"}  # fmt: skip


def test_a_cut_last_line_is_left_out_and_the_next_run_begins_a_new_one(path: Path) -> None:
    with Log(path) as log:
        log.write("plan")
        log.write("progress", done=1)
    for cut in range(1, 40):
        whole = path.read_bytes()
        path.write_bytes(whole[:-cut])
        assert [event["event"] for event in read_log(path)] == ["plan"] + ["progress"] * (cut == 1)
        with Log(path) as log:
            log.write("done")
        assert [event["event"] for event in read_log(path)][-1] == "done"
        path.write_bytes(whole)


def test_runs_that_share_a_file_are_told_apart(path: Path) -> None:
    with Log(path) as one, Log(path) as other:
        for number in range(5):
            one.write("progress", done=number)
            other.write("progress", done=number + 100)
    events = read_log(path)
    assert len({event["run"] for event in events}) == 2
    assert [event["done"] for event in events if event["run"] == one.run] == list(range(5))


def test_durations_do_not_follow_the_clock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 101.5, 103.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))

    class Jumping(datetime):
        hours = iter([12, 3])

        @classmethod
        def now(cls, tz: object = None) -> "Jumping":
            return cls(2026, 1, 1, next(cls.hours), tzinfo=UTC)

    monkeypatch.setattr("merstore.fill.log.datetime", Jumping)
    with Log(path) as log:
        log.write("plan")
        log.write("done")
    first, last = read_log(path)
    assert first["time"] > last["time"]
    assert (first["seconds"], last["seconds"]) == (1.5, 3.0)


def test_a_killed_process_leaves_whole_lines(path: Path) -> None:
    code = (
        "import sys; from merstore.fill.log import Log; log = Log(sys.argv[1])\n"
        "for n in range(10**9): log.write('progress', done=n, told='x' * (n % 300)); print(n, flush=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert child.stdout is not None
    for _ in range(500):
        last = int(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.communicate()
    events = read_log(path)
    assert [event["done"] for event in events] == list(range(len(events)))
    assert len(events) > last  # all that was said to be written


def test_a_full_disk_ends_the_log_and_not_the_run(path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
            log = Log(path)
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                for _ in range(100):
                    log.write("progress", done=1)
            (told,) = map(str, (each.message for each in warned))
            status = 0 if "run.jsonl ends here" in told else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(read_log(path)) > 3


def test_what_is_no_log(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match=r"run\.jsonl cannot be read"):
        read_log(path)
    with pytest.raises(MerstoreError, match=r"nowhere/log cannot be written"):
        Log(tmp_path / "nowhere" / "log")
    path.write_bytes(b"")
    assert read_log(path) == []
    path.write_text('one\ntwo\n[1, 2]\n{"event": 3}\n{"event": "plan", "seconds": NaN}\n')
    with pytest.raises(MerstoreError, match="is no log"):
        read_log(path)
