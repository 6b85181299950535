"""Lightning: a LightningDataModule that trains from FeatureLoader and validates from a plain DataLoader."""

from typing import Any

import lightning
import torch
import toy
from torch.utils.data import DataLoader

import merstore
from merstore.load import FeatureBatch, FeatureDataset, FeatureLoader


class Features(lightning.LightningDataModule):
    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def setup(self, stage: str) -> None:
        store = merstore.open(self.path)
        self.views = {"frame": store[toy.FRAME], "audio": store[toy.AUDIO]}

    def dataset(self, names: list[str], **options: Any) -> FeatureDataset:
        return FeatureDataset(self.views, names, columns={"labels": toy.LABELS}, **options)

    def train_dataloader(self) -> FeatureLoader:
        # each of several processes gets its share of the samples by itself
        return FeatureLoader(self.dataset(toy.TRAINING), batch_size=12, shuffle=True)

    def val_dataloader(self) -> "DataLoader[Any]":
        return DataLoader(self.dataset(toy.HELD_OUT, length="max"), batch_size=9)


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = toy.Classifier()

    def training_step(self, batch: FeatureBatch, _: int) -> torch.Tensor:
        loss: torch.Tensor = self.model(**batch)["loss"]
        self.log("loss", loss, on_step=False, on_epoch=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        del batch["name"]
        self.log("held_out", self.model(**batch)["loss"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


class Report(lightning.Callback):
    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        logged = trainer.callback_metrics
        print(
            f"epoch {trainer.current_epoch}: step {trainer.global_step}, loss {logged['loss']:.3f}, "
            f"held out {logged['held_out']:.3f}"
        )


if __name__ == "__main__":
    lightning.seed_everything(0)
    with toy.store() as store:
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=4,
            callbacks=[Report()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(), datamodule=Features(str(store.path)))
