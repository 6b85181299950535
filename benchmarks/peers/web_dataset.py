from pathlib import Path

import webdataset

from .peer import Batches, Entries, Index, Peer

SHARD_BYTES = 16 << 20  # several for each worker
SHUFFLE = 1000


class WebDataset(Peer):
    loads = "ShardWriter, `.npy` members; WebLoader over WebDataset(shardshuffle).shuffle(1000).decode().batched"

    def write(self, folder: Path, entries: Entries) -> None:
        with webdataset.ShardWriter(
            str(folder / "%06d.tar"), maxsize=SHARD_BYTES, verbose=0
        ) as writer:
            for name, entry in entries.items():
                writer.write({"__key__": name, "npy": entry})

    def loader(
        self, folder: Path, index: Index, batch_size: int, seed: int, workers: int
    ) -> Batches:
        shards = sorted(str(path) for path in folder.glob("*.tar"))
        dataset = (
            webdataset.WebDataset(shards, shardshuffle=len(shards), seed=seed, empty_check=False)
            .shuffle(SHUFFLE)
            .decode()
            .to_tuple("__key__", "npy")
            .batched(batch_size)
        )
        loader: Batches = webdataset.WebLoader(
            dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0
        )
        return loader
