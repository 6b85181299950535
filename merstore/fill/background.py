"""Filling in a thread, so that whoever reads does not wait."""

import threading

from merstore.fill.filler import Filler
from merstore.store.store import Store
from merstore.store.view import View


class Background:
    """A view's filler that notes what is missing and computes it behind the reader's back:
    ``view.filler = Background(Filler(clips, recipe))``.

    With ``on_miss="fill"`` a missing sample is then masked at once, and there for whoever asks after
    the store was refreshed (a loader's next epoch). It is computed by the same engine, under the
    same spec; what cannot be computed becomes a failure record.

    Picklable; what waits in the queue stays behind.
    """

    def __init__(self, filler: Filler) -> None:
        self.filler = filler
        self._changed = threading.Condition()
        self._waiting: dict[str, dict[str, None]] = {}  # view path -> names
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def fill(self, view: View, names: list[str]) -> None:
        """Have `names` computed some time. Raises what the thread failed with since the last call."""
        view.store.view(view.path, self.filler.recipe.spec)
        self._raise()
        with self._changed:
            self._waiting.setdefault(view.path, {}).update(dict.fromkeys(names))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._work,
                    args=(str(view.store.path),),
                    name="merstore-fill",
                    daemon=True,
                )
                self._thread.start()

    def wait(self) -> None:
        """Until all that was asked for is computed. Raises what the thread failed with."""
        thread = self._thread
        if thread is not None:
            thread.join()
        self._raise()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _work(self, path: str) -> None:
        try:
            # a store of its own: the reader's snapshot stays what it is
            with Store(path, "a") as store:
                while True:
                    with self._changed:
                        if not self._waiting:
                            self._thread = None
                            return
                        where, names = self._waiting.popitem()
                    self.filler.fill(store[where], names)
        except BaseException as error:  # noqa: BLE001  (raised in the reader's thread)
            self._error = error

    def __reduce__(self) -> tuple[type["Background"], tuple[Filler]]:
        return Background, (self.filler,)
