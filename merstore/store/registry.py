"""The environments that are open in this process, the lock over what reads them, and what a fork does
to them.
"""

import os
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from merstore.store.environment import Environment

# Short: the registry, and every LMDB call that reads. Taken last: nobody waits for a write lock
# while he holds it.
guard = threading.RLock()
environments: dict[tuple[int, int] | None, "Environment"] = {}  # by device and inode of data.mdb

_held: list[Any] = []  # the locks that the fork under way has taken, under guard


def _before_fork() -> None:
    """Wait until no thread is inside a transaction or an LMDB call: the child has none of those
    threads to end them.
    """
    locks: list[Any] = []
    try:
        while True:
            with guard:
                wanted = [environment.write_lock for environment in environments.values()]
            for lock in wanted:
                lock.acquire()
                locks.append(lock)
            guard.acquire()
            if wanted == [environment.write_lock for environment in environments.values()]:
                break
            guard.release()  # a store was opened or closed meanwhile
            while locks:
                locks.pop().release()
    except BaseException:  # Ctrl-C while waiting: the fork goes on all the same
        guard.acquire()
        raise
    finally:
        _held[:] = locks


def _after_fork_in_parent() -> None:
    locks = _held[:]
    _held.clear()
    guard.release()
    for lock in locks:
        lock.release()


def _after_fork_in_child() -> None:
    try:
        for environment in list(environments.values()):
            environment.after_fork()
    finally:
        _after_fork_in_parent()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
