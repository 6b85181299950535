"""Who uses a store's environment: all of a process together, one for himself, or one beside them."""

import warnings
from collections.abc import Callable
from pathlib import Path

from merstore.errors import MerstoreError, StoreBusy, UnsafeFilesystem
from merstore.store import files, filesystem
from merstore.store.environment import Environment, Holder
from merstore.store.registry import environments, guard


def acquire(
    path: Path,
    holder: Holder,
    *,
    create: bool,
    write: bool,
    durability: str,
    force: bool,
    map_size: int | None,
) -> Environment:
    """The environment of the store at ``path`` for ``holder``, opened if this process has not done so
    yet. ``release`` it afterwards.
    """
    if durability not in ("full", "fast"):
        raise MerstoreError(f'durability is "full" or "fast", not {durability!r}')
    path = path.absolute()
    if write:
        _check_network(path, force)
    with guard:
        identity = files.identity(path)[0]
        environment = environments.get(identity) if identity else None
        if environment is None:
            files.check(path, create)
            environment = Environment(path, create=create, durability=durability, map_size=map_size)
            environment.shared = True
            environments[environment.key] = environment
        elif write and durability != environment.durability:
            raise StoreBusy(
                f'{path} is already open in this process with durability="{environment.durability}": close it first'
            )
        environment.holders.add(holder)
        try:
            if write:
                environment.prepare_to_write()
        except BaseException:
            release(environment, holder)
            raise
        return environment


def release(environment: Environment, holder: Holder) -> None:
    try:
        if len(environment.holders) == 1:
            environment.finish_fast()
    finally:
        with guard:
            environment.holders.discard(holder)
            environment.shut_if_unused()


def alone(environment: Environment, work: Callable[[], None]) -> None:
    """Close the environment, do ``work`` on its files, and open it again. StoreBusy if anybody else in
    this process uses it.
    """
    with environment.write_lock, guard:
        if len(environment.holders) == 1:  # refused, the others keep their snapshots
            environment.let_go()
        environment.check_length()
        if len(environment.holders) > 1 or environment.reading:
            raise StoreBusy(
                f"{environment.path} is in use in this process: close its other stores and let go of its arrays"
            )
        environment.finish_fast()
        environment.shut()
        try:
            work()
        finally:
            environment.reopen()


def beside(path: Path) -> Environment:
    """An environment for reading files that the caller has locked himself; not shared, not
    registered.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Environment(path, create=False, durability="full", map_size=None, writable=False)


def _check_network(path: Path, force: bool) -> None:
    if not force and filesystem.is_network(path):
        raise UnsafeFilesystem(
            f"{path} lies on a network filesystem ({filesystem.kind_of(path)}), where LMDB's "
            "locks cannot be trusted: write to a local disk and copy the store, or pass "
            "force=True (--force) if no other machine opens it"
        )
