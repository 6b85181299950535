"""Two processes under torch.distributed, each with its share of every epoch: with torch's sampler and
loader, and with FeatureLoader, which finds out its share by itself.
"""

import os
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
import toy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import merstore
from merstore.load import FeatureDataset, FeatureLoader

WORLD_SIZE = 2


def main(rank: int, path: str, rendezvous: str) -> None:
    dist.init_process_group("gloo", f"file://{rendezvous}", rank=rank, world_size=WORLD_SIZE)
    with merstore.open(path) as store:
        dataset = FeatureDataset(
            {"frame": store[toy.FRAME], "audio": store[toy.AUDIO]},
            toy.TRAINING + toy.HELD_OUT,
            columns={"labels": toy.LABELS},
            length="max",
        )
        with_distributed_sampler(dataset)
        with_feature_loader(dataset)
    dist.barrier()  # nobody leaves while another still talks
    dist.destroy_process_group()


def with_distributed_sampler(dataset: FeatureDataset) -> None:
    sampler: DistributedSampler[Any] = DistributedSampler(dataset)
    loader = DataLoader(dataset, batch_size=8, sampler=sampler)
    training = Training()
    for epoch in range(3):
        sampler.set_epoch(epoch)
        for batch in loader:
            training.step(batch.pop("name"), **batch)
        training.report(f"DistributedSampler, epoch {epoch}")


def with_feature_loader(dataset: FeatureDataset) -> None:
    loader = FeatureLoader(dataset, batch_size=8, shuffle=True)  # or with rank= and world_size=
    training = Training()
    for epoch in range(3):
        for batch in loader:
            training.step(batch.names, **batch)
        training.report(f"FeatureLoader, epoch {epoch}")


class Training:
    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = DistributedDataParallel(toy.Classifier())
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.names: list[str] = []
        self.losses: list[float] = []

    def step(self, names: list[str], **batch: torch.Tensor) -> None:
        loss = self.model(**batch)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.names += names
        self.losses.append(loss.item())

    def report(self, epoch: str) -> None:
        """What all processes have seen, and the first one's mean loss."""
        shares: list[Any] = [None] * WORLD_SIZE
        dist.all_gather_object(shares, self.names)
        if dist.get_rank() == 0:
            counts = " + ".join(str(len(share)) for share in shares)
            different = len({name for share in shares for name in share})
            loss = sum(self.losses) / len(self.losses)
            print(f"{epoch}: {counts} samples, {different} different, loss {loss:.3f}")
        self.names, self.losses = [], []


if __name__ == "__main__":
    with toy.store() as store, TemporaryDirectory() as folder:
        rendezvous = os.path.join(folder, "rendezvous")
        torch.multiprocessing.spawn(main, (str(store.path), rendezvous), nprocs=WORLD_SIZE)
