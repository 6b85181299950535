"""FeatureDataset in torch's own DataLoader, with and without worker processes."""

import torch
import toy
from torch.utils.data import DataLoader

from merstore.load import FeatureDataset


def train(dataset: FeatureDataset, num_workers: int) -> None:
    torch.manual_seed(0)
    loader = DataLoader(
        dataset,
        batch_size=16,
        shuffle=True,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
    )
    model = toy.Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for epoch in range(4):
        names, losses = [], []
        for batch in loader:  # {"name": [...], "frame": [16, 8, 16], "audio": [16, T, 12], ...}
            names += batch.pop("name")
            loss = model(**batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(
            f"{num_workers} workers, epoch {epoch}: {len(names)} samples, {len(set(names))} different, "
            f"loss {sum(losses) / len(losses):.3f}"
        )


if __name__ == "__main__":
    with toy.store() as store:
        # Without names: the samples that are in both views. A warning says which are left out.
        dataset = FeatureDataset(
            {"frame": store[toy.FRAME], "audio": store[toy.AUDIO]},
            columns={"labels": toy.LABELS},
            length="max",  # the audio is padded, with "audio_length" beside it
        )
        for num_workers in (0, 2):
            train(dataset, num_workers)
