"""torchdata's StatefulDataLoader over FeatureDataset: a checkpoint in mid-epoch, and on from there."""

from typing import Any

import torch
import toy
from torchdata.stateful_dataloader import StatefulDataLoader

from merstore.load import FeatureDataset


def make_loader(dataset: FeatureDataset) -> "StatefulDataLoader[Any]":
    return StatefulDataLoader(dataset, batch_size=16, shuffle=True, num_workers=2)


if __name__ == "__main__":
    torch.manual_seed(0)
    with toy.store() as store:
        dataset = FeatureDataset(
            {"frame": store[toy.FRAME], "audio": store[toy.AUDIO]}, toy.TRAINING, length="max"
        )
        before = []
        loader = make_loader(dataset)
        for number, batch in enumerate(loader, start=1):
            before += batch["name"]
            if number == 2:
                checkpoint = loader.state_dict()  # goes beside the model's and the optimizer's
                break

        loader = make_loader(dataset)  # in another run, say
        loader.load_state_dict(checkpoint)
        after = [name for batch in loader for name in batch["name"]]

        print(f"{len(before)} samples before the checkpoint, {len(after)} after it")
        print(f"{len({*before, *after})} different of {len(dataset)}")
