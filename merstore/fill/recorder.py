"""What a run tells, written to its log."""

from collections.abc import Sequence

from merstore.fill.engine import Failed, FillReport, Progress, Tell
from merstore.fill.log import Log

SECONDS = 1.0  # between two events of progress


class Recorder:
    """Writes failures and progress to `log`, and passes everything on to `tell`."""

    def __init__(self, log: Log, tell: Tell | None = None) -> None:
        self._log = log
        self._tell = tell
        self._last: Progress | None = None

    def __call__(self, told: Progress | Failed) -> None:
        if self._tell:
            self._tell(told)
        if isinstance(told, Failed):
            self._log.write(
                "failure", view=told.view, sample=told.name, kind=told.kind, message=told.message
            )
        elif (
            self._last is None
            or told.seconds - self._last.seconds >= SECONDS
            or told.done == told.total
        ):
            self._progress(told)

    def _progress(self, told: Progress) -> None:
        last = self._last or Progress(0, 0, 0, 0, 0.0, 0.0, 0.0)
        span = told.seconds - last.seconds
        encoding = told.encoding * told.seconds - last.encoding * last.seconds
        reading = told.reading * told.seconds - last.reading * last.seconds
        self._log.write(
            "progress",
            done=told.done,
            total=told.total,
            failed=told.failed,
            elsewhere=told.elsewhere,
            encode=round(min(encoding / span, 1.0), 3) if span > 0 else None,
            decode=round(min(reading / span, 1.0), 3) if span > 0 else None,
        )
        self._last = told

    def done(self, reports: Sequence[FillReport]) -> None:
        self._log.write(
            "done",
            computed=sum(report.computed for report in reports),
            failed=sum(report.failures for report in reports),
            bytes=sum(report.bytes for report in reports),
        )
