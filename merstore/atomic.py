"""Writing a file whole or not at all."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def replacing(path: str | os.PathLike[str], *, durable: bool = False) -> Iterator[IO[bytes]]:
    """A file, to write and to read, that becomes `path` when the block ends well; until then, and if
    it does not, what is there stays as it is. durable: it is on the disk before it has its name.

    Raises OSError.
    """
    target = Path(path)
    # Short whatever the name is, which may be as long as the file system allows.
    temporary = target.with_name(f".merstore-{os.getpid()}-{threading.get_ident():x}.part")
    try:
        with open(temporary, "w+b") as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
