import sys
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

from .peer import Batches, Collate, Entries, Index, Peer, Read

# Its package imports torchvision for image data sets; what streams is in streaming.base, which does not.
if "streaming" not in sys.modules:
    spec = find_spec("streaming")
    if spec is None:
        raise ModuleNotFoundError("No module named 'streaming'")
    sys.modules["streaming"] = module_from_spec(spec)
from streaming.base import MDSWriter, StreamingDataLoader, StreamingDataset


class Mosaic(Peer):
    reads = "an ndarray column; StreamingDataset(local=...)[row] of each, into one array"
    pads = "the same, padded"
    loads = "StreamingDataLoader over StreamingDataset(shuffle=True)"

    def write(self, folder: Path, entries: Entries) -> None:
        index = entries.index
        shape = "" if index.ragged else f":{','.join(map(str, index.shape))}"
        columns = {"name": "str", "x": f"ndarray:float32{shape}"}
        with MDSWriter(out=str(folder / "x"), columns=columns) as writer:
            for name, entry in entries.items():
                writer.write({"name": name, "x": entry})

    def open(self, folder: Path, index: Index, batch_size: int, reuse: bool) -> Read:
        dataset = StreamingDataset(local=str(folder / "x"), batch_size=batch_size)
        collate = Collate(index, batch_size, reuse)
        return lambda rows: collate(rows, (dataset[row]["x"] for row in rows.tolist()))

    def loader(
        self, folder: Path, index: Index, batch_size: int, seed: int, workers: int
    ) -> Batches:
        dataset = StreamingDataset(
            local=str(folder / "x"), shuffle=True, shuffle_seed=seed, batch_size=batch_size
        )
        loader = StreamingDataLoader(
            dataset, batch_size=batch_size, num_workers=workers, persistent_workers=workers > 0
        )
        return _Named(loader)


class _Named:
    def __init__(self, loader: StreamingDataLoader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[tuple[list[str], Any]]:
        return ((batch["name"], batch["x"]) for batch in self.loader)
