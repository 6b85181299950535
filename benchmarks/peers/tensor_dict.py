from pathlib import Path

import torch
from tensordict import TensorDict

from .peer import LOADER, Entries, Index, Peer, Read, Unsupported


class Tensordict(Peer):
    reads = 'TensorDict(...).memmap(folder); TensorDict.load_memmap(folder)["x"][rows]'
    loads = LOADER

    def write(self, folder: Path, entries: Entries) -> None:
        if entries.index.ragged:
            raise Unsupported("one batch size for all leaves")
        values = torch.from_numpy(entries.array)
        TensorDict({"x": values}, batch_size=[len(entries)]).memmap(folder / "td")

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        mapped = TensorDict.load_memmap(folder / "td")["x"]
        return lambda rows: mapped[torch.from_numpy(rows)]
