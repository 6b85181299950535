"""Training that is broken off in mid-epoch and goes on with exactly the batches it had not seen."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import toy

import merstore
from merstore.load import FeatureDataset, FeatureLoader


def train(store: merstore.Store, checkpoint: Path, stop_at: int | None = None) -> list[str]:
    """Two epochs, or from the checkpoint on what is left of them; the samples in the order seen."""
    torch.manual_seed(0)
    dataset = FeatureDataset(
        {"frame": store[toy.FRAME], "audio": store[toy.AUDIO]},
        toy.TRAINING,
        columns={"labels": toy.LABELS},
    )
    loader = FeatureLoader(dataset, batch_size=8, shuffle=True)
    model = toy.Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["loader"])

    seen: list[str] = []
    for _ in range(loader.epoch, 2):
        for step, batch in enumerate(loader, start=1):
            loss = model(**batch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen += batch.names
            if step == stop_at:
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "loader": loader.state_dict(),  # a few hundred bytes
                }
                torch.save(state, checkpoint)
                return seen
    print(f"loss at the end: {loss.item():.6f}")
    return seen


if __name__ == "__main__":
    with toy.store() as store, TemporaryDirectory() as folder:
        whole = train(store, Path(folder) / "none.pt")
        before = train(store, Path(folder) / "checkpoint.pt", stop_at=5)
        after = train(store, Path(folder) / "checkpoint.pt")
        print(f"{len(before)} samples before the checkpoint, {len(after)} after it")
        print(f"the same {len(whole)} as without a stop: {before + after == whole}")
