"""The corpora that are known: those that come with merstore, and those of the user's own file."""

import difflib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from merstore.corpora.table import Table, parse_table
from merstore.errors import InvalidKey, MerstoreError

TABLES = Path(__file__).parent / "tables"
VARIABLE = "MERSTORE_CORPORA"  # the user's own YAML file


def tables(path: str | os.PathLike[str] | None = None) -> dict[str, Table]:
    """All known corpora by key.

    path: a YAML file of more, by default the one that ``$MERSTORE_CORPORA`` names. A corpus in it
    takes the place of a built-in one of the same key. Raises MerstoreError where the file is not as
    ``tables/README.md`` says.
    """
    known = dict(_built_in())
    own = path if path is not None else os.environ.get(VARIABLE)
    if own:
        known |= read_tables(Path(own))
    _spellings(known)
    return known


def find(name: str, path: str | os.PathLike[str] | None = None) -> Table:
    """A corpus by its key or any of its other names, in any case.

    Raises InvalidKey with the nearest names.
    """
    known = tables(path)
    spellings = _spellings(known)
    key = spellings.get(name.casefold())
    if key is None:
        near = difflib.get_close_matches(name.casefold(), spellings, 3)
        hint = f"near: {', '.join(near)}" if near else "`merstore corpora` lists those there are"
        raise InvalidKey(f"no corpus {name!r} is known; {hint}. Declare your own in a YAML file")
    return known[key]


def read_tables(path: Path) -> dict[str, Table]:
    """The corpora of one YAML file: a mapping of keys to what is declared of them."""
    return {key: parse_table(key, declared, str(path)) for key, declared in _load(path).items()}


@cache
def _built_in() -> Mapping[str, Table]:
    known: dict[str, Table] = {}
    for path in sorted(TABLES.glob("*.yaml")):
        known |= read_tables(path)
    return known


def _spellings(known: Mapping[str, Table]) -> dict[str, str]:
    """Every name, in lower case, and the key that it stands for."""
    spellings: dict[str, str] = {}
    for key, table in known.items():
        for name in (key, *table.aliases):
            other = spellings.setdefault(name.casefold(), key)
            if other != key:
                raise MerstoreError(
                    f"{table.origin}: the name {name!r} of {key} is also one of {other}: leave it out"
                )
    return spellings


def _load(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ModuleNotFoundError:
        raise MerstoreError(
            "tables of corpora are YAML files: pip install 'merstore[corpora]'"
        ) from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Refuses a key that stands twice, where YAML's own loader lets the last one win."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            for name, (key, _) in zip(names, node.value, strict=True):
                if names.count(name) > 1:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{name!r} stands here more than once", key.start_mark
                    )
            return super().construct_mapping(node, deep)

    try:
        declared = yaml.load(path.read_bytes(), Loader)
    except OSError as error:
        raise MerstoreError(f"{path}: {error.strerror}: name a YAML file of corpora") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        told = " ".join(str(error).split())
        raise MerstoreError(f"{path}: no readable YAML: {told}") from None
    if not isinstance(declared, dict) or not all(isinstance(key, str) for key in declared):
        raise MerstoreError(f"{path}: a mapping of corpus keys to their tables is wanted")
    return declared
