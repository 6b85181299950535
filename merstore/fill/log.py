"""The log of a prewarm for programs: JSON lines, one object for each event.

Every event has ``time`` (UTC, ISO 8601: a stamp only, the clock may jump), ``seconds`` since its run
began (monotonic: what durations are taken from), ``run`` (the same for all events of one process's
run) and ``event``. The events, and what else they have:

``plan``      ``views``: view path to ``{"samples", "present", "failed", "missing"}``; ``settings`` and
              ``machine``: mappings; ``shard``: ``"3/16"`` or null
``progress``  ``done`` of ``total`` entries of this run, ``elsewhere`` of them by other processes, ``failed``;
              ``encode`` and ``decode``: the shares of the time since the last one, 0 to 1 or null, in
              which the encoder was at work and in which it waited for samples to be read
``failure``   ``view``, ``sample``, ``kind``, ``message``
``done``      ``computed``, ``failed``, ``bytes``
"""

import json
import math
import os
import time
import uuid
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from merstore.errors import MerstoreError

EVENTS = ("plan", "progress", "failure", "done")


class Log:
    """Appends a run's events to a file, each as one line at once: a killed run leaves whole lines, and
    several processes may write to one file. Threads may share it.

    Raises MerstoreError where the file cannot be opened. Where it cannot be written to later, a
    warning says so once and the run goes on without it.
    """

    def __init__(self, path: "str | os.PathLike[str]") -> None:
        self.path = Path(path)
        self.run = uuid.uuid4().hex[:12]
        self._began = time.monotonic()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            self._file = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise MerstoreError(
                f"the log {self.path} cannot be written: {error.strerror}"
            ) from None
        try:
            size = os.fstat(self._file).st_size
            # what an earlier run left of its last line must not spoil the next
            self._cut = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"
        except OSError:  # a pipe or a terminal
            self._cut = False

    def write(self, event: str, **fields: Any) -> None:
        """Values without a JSON form are written as text, NaN and infinity as null."""
        if self._file < 0:
            return
        head = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "run": self.run,
            "seconds": round(time.monotonic() - self._began, 3),
            "event": event,
        }
        text = json.dumps(_plain(head | fields), ensure_ascii=False, allow_nan=False)
        # a lone surrogate, of an undecodable file name, becomes JSON's own escape for it
        line = text.encode(errors="backslashreplace") + b"\n"
        if self._cut:
            line, self._cut = b"\n" + line, False
        try:
            written = os.write(self._file, line)
            self._cut = written < len(line)
        except OSError as error:
            warnings.warn(
                f"the log {self.path} ends here: {error.strerror}; the run goes on", stacklevel=2
            )
            self.close()

    def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_log(path: "str | os.PathLike[str]") -> list[dict[str, Any]]:
    """The events in a log, in the order in which they were written. Lines that a kill has cut are
    left out, the last one above all.

    Raises MerstoreError where the file cannot be read or is no such log.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise MerstoreError(f"the log {path} cannot be read: {error.strerror}") from None
    events = [event for line in lines if (event := _event(line)) is not None]
    if not events and sum(map(bool, lines)) > 1:
        raise MerstoreError(f"{path} is no log of a prewarm: none of its lines is an event")
    return events


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return None
    seconds = event.get("seconds")
    return event if isinstance(seconds, int | float) and math.isfinite(seconds) else None


def _plain(value: Any) -> Any:
    """As JSON values."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    item = getattr(value, "item", None)  # a number of NumPy's
    return _plain(item()) if callable(item) and getattr(value, "ndim", 1) == 0 else str(value)
