"""Hugging Face's Trainer: FeatureDataset is the dataset, its column `labels` the labels."""

from tempfile import TemporaryDirectory

import toy
from transformers import EvalPrediction, Trainer, TrainingArguments, set_seed

from merstore.load import FeatureDataset


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": (prediction.predictions.argmax(1) == prediction.label_ids).mean()}


if __name__ == "__main__":
    set_seed(0)
    with toy.store() as store, TemporaryDirectory() as folder:
        views = {"frame": store[toy.FRAME], "audio": store[toy.AUDIO]}
        labels = {"labels": toy.LABELS}
        trainer = Trainer(
            toy.Classifier(),  # its forward takes the items' keys, and gives {"loss", "logits"}
            TrainingArguments(
                folder,
                num_train_epochs=4,
                per_device_train_batch_size=12,
                learning_rate=0.01,
                logging_strategy="epoch",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            ),
            train_dataset=FeatureDataset(views, toy.TRAINING, columns=labels, length="max"),
            eval_dataset=FeatureDataset(views, toy.HELD_OUT, columns=labels, length="max"),
            compute_metrics=accuracy,
        )
        trainer.train()
        trainer.evaluate()
        for log in trainer.state.log_history:
            if "loss" in log:
                print(f"epoch {log['epoch']:.0f}: step {log['step']}, loss {log['loss']:.3f}")
            if "eval_loss" in log:
                print(f"held out: loss {log['eval_loss']:.3f}, accuracy {log['eval_accuracy']:.2f}")
