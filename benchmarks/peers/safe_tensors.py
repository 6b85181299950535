from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from .peer import LOADER, Collate, Entries, Index, Peer, Read


class Safetensors(Peer):
    reads = (
        "one stacked tensor; safe_open(...).get_tensor once, which maps the file, then tensor[rows]"
    )
    pads = 'a tensor for each name; safe_open(..., "np").get_tensor(name), padded'
    loads = LOADER

    def write(self, folder: Path, entries: Entries) -> None:
        tensors = dict(entries.items()) if entries.index.ragged else {"x": entries.array}
        save_file(tensors, folder / "x.safetensors")

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        path = folder / "x.safetensors"
        if index.ragged:
            file: Any = safe_open(path, "np")
            collate = Collate(index, batch_size, reuse)
            return lambda rows: collate(
                rows, (file.get_tensor(index.names[row]) for row in rows.tolist())
            )
        stacked: Any = safe_open(path, "pt")
        mapped = stacked.get_tensor("x")
        return lambda rows: mapped[torch.from_numpy(rows)]
