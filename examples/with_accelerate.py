"""accelerate: `prepare` takes a DataLoader over FeatureDataset as it takes any other.

python examples/with_accelerate.py, or accelerate launch examples/with_accelerate.py
"""

import torch
import toy
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from merstore.load import FeatureDataset

if __name__ == "__main__":
    accelerator = Accelerator()
    set_seed(0)
    with toy.store() as store:
        dataset = FeatureDataset(
            {"frame": store[toy.FRAME], "audio": store[toy.AUDIO]},
            toy.TRAINING,
            columns={"labels": toy.LABELS},
            length="max",
        )
        model = toy.Classifier()
        model, optimizer, loader = accelerator.prepare(
            model,
            torch.optim.AdamW(model.parameters(), lr=0.01),
            DataLoader(dataset, batch_size=12, shuffle=True),
        )
        for epoch in range(4):
            labels, losses = [], []
            for batch in loader:  # its tensors are on the device already
                del batch["name"]
                loss = model(**batch)["loss"]
                optimizer.zero_grad()
                accelerator.backward(loss)
                optimizer.step()
                losses.append(loss.item())
                labels.append(accelerator.gather_for_metrics(batch["labels"]))
            accelerator.print(
                f"epoch {epoch}: {len(torch.cat(labels))} samples, "
                f"loss {sum(losses) / len(losses):.3f}"
            )
    accelerator.end_training()
