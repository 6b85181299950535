"""What of a MERTools checkout is replaced when it is imported.

A module is known by what it defines, not by its name: the reader's two functions
(``func_read_multiprocess``, ``func_read_one_feat``) and its two datasets (``Data_Feat``,
``Data_Feat_TOPN``). Functions that take other arguments than the reference's are left alone, and
what is asked of feature roots that the store lacks goes to the original.

Of the datasets only the construction is replaced: their own code is run over stand-ins of one row,
which tells which folders it reads and where it keeps them, and the arrays are put there, made by
`merstore.interop.mertools.DataFeat` in one copy. That is done only where a first trial, on three
samples, gives bit for bit what the checkout's code makes of them; else that code is run as it is,
over arrays that were read from the store.
"""

import contextlib
import inspect
import io
import os
import sys
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

import numpy as np

from merstore.errors import MerstoreError, UnknownView
from merstore.interop import mertools
from merstore.interop.feature_paths import FeaturePaths

__all__ = ["install", "uninstall"]

READER, ONE = "func_read_multiprocess", "func_read_one_feat"
DATASETS = ("Data_Feat", "Data_Feat_TOPN")
DEFINED = tuple(
    [f"def {name}(".encode() for name in (READER, ONE)]
    + [f"class {name}".encode() for name in DATASETS]
)
TRIAL = 3  # samples
MARK = np.float32(-7.3125e18)  # times 1, 2, ...: what stands in for the features of each role

_paths: FeaturePaths | None = None
_undo: list[tuple[Any, str, Any, Any]] = []


def install(paths: FeaturePaths) -> None:
    """Replace what is imported already, and what will be."""
    global _paths
    _paths = paths
    sys.meta_path.insert(0, _Finder)
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and not module.__name__.startswith("merstore"):
            _replace_in(module)


def uninstall() -> None:
    """Put everything back."""
    global _paths
    _paths = None
    with contextlib.suppress(ValueError):
        sys.meta_path.remove(_Finder)
    while _undo:
        where, name, old, new = _undo.pop()
        if getattr(where, name, None) is new:
            setattr(where, name, old)


class _Finder(MetaPathFinder):
    """Finds modules as always; of one that defines something of the reference's, replaces that after
    it was executed.
    """

    @classmethod
    def find_spec(
        cls, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name.partition(".")[0] in sys.stdlib_module_names:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None or not _defines(spec.origin):
            return None
        execute = spec.loader.exec_module

        def then_replace(module: ModuleType) -> None:
            execute(module)
            if _paths is not None:
                _replace_in(module)

        spec.loader.exec_module = then_replace  # type: ignore[method-assign]
        return spec


def _defines(origin: str | None) -> bool:
    if not origin or not origin.endswith(".py"):
        return False
    if f"{os.sep}site-packages{os.sep}" in origin or origin.startswith(os.path.dirname(__file__)):
        return False
    try:
        with open(origin, "rb") as file:
            source = file.read()
    except OSError:
        return False
    return any(defined in source for defined in DEFINED)


def _replace_in(module: ModuleType) -> None:
    """The functions that a module has under the reference's names, whoever defined them; classes
    where they are defined.
    """
    for name, replacement in ((READER, _reader), (ONE, _one)):
        original = vars(module).get(name)
        if inspect.isfunction(original) and not hasattr(original, "_merstore"):
            new = _known.get(original) or replacement(original)
            if new is not None:
                _known[original] = new
                setattr(module, name, new)
                _undo.append((module, name, original, new))
    for name in DATASETS:
        original = vars(module).get(name)
        if inspect.isclass(original) and original.__module__ == module.__name__:
            _replace_init(original, top=name == DATASETS[1])


# --- the reader ----------------------------------------------------------------------------------

_known: dict[Any, Any] = {}  # original function -> what replaces it
_local = threading.local()


def _covers(feature_root: Any) -> bool:
    """Whether the store has this feature root. Raises UnknownView, with the nearest folders, where
    neither the store nor the disk has it.
    """
    if _paths is None:
        return False
    try:
        path = os.path.join(os.fspath(feature_root), "")
        folder = _paths.folder(path)
        if folder is not None and _paths.view(folder) is not None:
            return True
        if _paths.place(path) is not None and not os.path.exists(path):
            _paths.find(feature_root)
    except TypeError:
        pass
    return False


def _reader(original: Callable[..., Any]) -> Callable[..., Any] | None:
    signature = inspect.signature(original)
    if list(signature.parameters)[:2] != ["feature_root", "names"]:
        return None

    @wraps(original)
    def func_read_multiprocess(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        given.apply_defaults()
        root, names = given.arguments["feature_root"], given.arguments["names"]
        plain = given.arguments.get("processor") is None
        if not plain or given.arguments.get("read_type", "feat") != "feat" or not _covers(root):
            return original(*args, **kwargs)
        stand_ins = getattr(_local, "stand_ins", None)
        if stand_ins is not None:
            return stand_ins(os.fspath(root), names)
        return mertools.func_read_multiprocess(root, names)

    func_read_multiprocess._merstore = True  # type: ignore[attr-defined]
    return func_read_multiprocess


def _one(original: Callable[..., Any]) -> Callable[..., Any] | None:
    signature = inspect.signature(original)
    if len(signature.parameters) != 1:
        return None

    @wraps(original)
    def func_read_one_feat(argv: Any) -> Any:
        if len(argv) == 4 and argv[2] is None and _covers(argv[0]):
            return mertools.func_read_one_feat(argv)
        return original(argv)

    func_read_one_feat._merstore = True  # type: ignore[attr-defined]
    return func_read_one_feat


# --- the datasets --------------------------------------------------------------------------------


def _replace_init(cls: type, top: bool) -> None:
    original = cls.__init__  # type: ignore[misc]
    if hasattr(original, "_merstore"):
        return
    if list(inspect.signature(original).parameters) != ["self", "args", "names", "labels"]:
        return

    @wraps(original)
    def __init__(self: Any, args: Any, names: Any, labels: Any) -> None:
        if _paths is not None and len(names) and _as_ours(cls, original, args, names, labels, top):
            calls: list[str] = []
            with _standing_in(calls):
                original(self, args, names, labels)
            blocks = _blocks(calls, args, names, top)
            places = _places(self, len(calls), len(names))
            if blocks is not None and places is not None:
                for attribute, number in places.items():
                    setattr(self, attribute, list(blocks[number]))
                return
            vars(self).clear()
        original(self, args, names, labels)

    __init__._merstore = True  # type: ignore[attr-defined]
    cls.__init__ = __init__  # type: ignore[misc]
    _undo.append((cls, "__init__", original, __init__))


def _as_ours(
    cls: type, original: Callable[..., Any], args: Any, names: Any, labels: Any, top: bool
) -> bool:
    """Whether the checkout's code makes of a few samples just what ours does."""
    few = min(TRIAL, len(names))
    trial: Any = object.__new__(cls)
    stood_in: Any = object.__new__(cls)
    calls: list[str] = []
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            original(trial, args, names[:few], labels[:few])
            with _standing_in(calls):
                original(stood_in, args, names[:few], labels[:few])
        blocks = _blocks(calls, args, names[:few], top)
        places = _places(stood_in, len(calls), few)
        if blocks is None or places is None:
            return False
        for attribute, number in places.items():
            theirs = np.array([np.asarray(value) for value in getattr(trial, attribute)])
            ours = blocks[number].astype(np.float32)  # what a batch makes of them
            if theirs.shape != ours.shape or theirs.astype(np.float32).tobytes() != ours.tobytes():
                return False
    except MerstoreError:
        raise
    except Exception:  # noqa: BLE001  (code of any kind, given what it does not expect)
        return False
    return True


@contextlib.contextmanager
def _standing_in(calls: list[str]) -> Iterator[None]:
    """Meanwhile the reader gives one row of one number a sample, and the true dimension; the
    roots that are asked for are added to `calls`.
    """

    def stand_ins(root: str, names: Sequence[str]) -> tuple[list[Any], int]:
        calls.append(root)
        value = np.full((1, 1), MARK * np.float32(len(calls)), np.float32)
        return [value] * len(names), mertools.Features(root, names[:1]).dim

    _local.stand_ins = stand_ins
    try:
        yield
    finally:
        _local.stand_ins = None


def _places(dataset: Any, count: int, samples: int) -> dict[str, int] | None:
    """Which attribute holds the stand-ins of which role; None where not every role has one."""
    places = {}
    for attribute, value in vars(dataset).items():
        if isinstance(value, (list, tuple, np.ndarray)) and len(value) == samples:
            number = _marked(value[0], count)
            if number is not None:
                places[attribute] = number
    return places if sorted(places.values()) == list(range(count)) else None


def _marked(value: Any, count: int) -> int | None:
    try:
        number = np.asarray(value, np.float64).reshape(-1).tolist()
    except (TypeError, ValueError):
        return None
    marks = [float(MARK * np.float32(role + 1)) for role in range(count)]
    return marks.index(number[0]) if len(number) == 1 and number[0] in marks else None


def _blocks(
    roots: list[str], args: Any, names: Sequence[str], top: bool
) -> Sequence[np.ndarray] | None:
    """The roles' arrays; None where there is not the number of roles that there should be."""
    try:
        if top:
            return mertools.DataFeatTopN(roots, names, {}).blocks
        if len(roots) != len(mertools.ROLES):
            return None
        folders = {
            f"{role}_feature": root for role, root in zip(mertools.ROLES, roots, strict=True)
        }
        how = Namespace(
            **folders, feat_type=args.feat_type, feat_scale=getattr(args, "feat_scale", None)
        )
        return mertools.DataFeat(how, names, {}).blocks
    except UnknownView:
        return None
