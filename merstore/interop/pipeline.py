"""Reading many files ahead of who works on them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self, TypeVar

__all__ = ["Readers", "chunks"]

Result = TypeVar("Result")
Chunk = tuple[list[str], int]  # names, and their bytes

CHUNK_BYTES = 1 << 20
AHEAD_BYTES = 64 << 20
AHEAD_CHUNKS = 256


def chunks(names: Iterable[str], size: Callable[[str], int], files: int) -> Iterator[Chunk]:
    """`names` in chunks of at most `files` and about `CHUNK_BYTES`, with the bytes of each."""
    chunk: list[str] = []
    total = 0
    for name in names:
        chunk.append(name)
        total += size(name)
        if len(chunk) == files or total >= CHUNK_BYTES:
            yield chunk, total
            chunk, total = [], 0
    if chunk:
        yield chunk, total


class Readers:
    """Reads chunks of files in `jobs` threads, in order, a bounded number of bytes ahead."""

    def __init__(self, jobs: int) -> None:
        self._pool = ThreadPoolExecutor(max(1, jobs), "merstore-read")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(
        self, read: Callable[[Sequence[str]], Result], chunks: Iterable[Chunk]
    ) -> Iterator[Result]:
        """`read` of each chunk's names, in order of the chunks."""
        ahead: deque[tuple[Future[Result], int]] = deque()
        ahead_bytes = 0
        for names, nbytes in chunks:
            ahead.append((self._pool.submit(read, names), nbytes))
            ahead_bytes += nbytes
            while ahead and (
                ahead[0][0].done() or ahead_bytes > AHEAD_BYTES or len(ahead) > AHEAD_CHUNKS
            ):
                future, size = ahead.popleft()
                ahead_bytes -= size
                yield future.result()
        for future, _ in ahead:
            yield future.result()
