"""A dataset class in the manner of AffectGPT's, which reads stored features by the same YAML keys."""

from typing import Any

import numpy as np
import torch
import toy
from torch.utils.data import DataLoader, Dataset

import merstore
from merstore.interop.affectgpt import Reader, collate, settings

# As in the YAML of a training run; preextracted_root may be the store's path instead of a folder of .npy files.
CONFIG: dict[str, Any] = {
    "model": {"vis_processor": {"train": {"n_frms": 8}}},
    "datasets": {
        "mer2023": {
            "face_or_frame": "multiframe_audio_frame_text",
            "frame_sampling": "emotion_peak",
            "use_preextracted_frame": True,
            "use_preextracted_audio": True,
            "use_preextracted_features": True,
        }
    },
}
NAMES = [f"sample_{i:08d}" for i in range(12)]


class Tokenizer:
    """Stands for the one of the language model."""

    bos_token_id, eos_token_id, pad_token_id = 1, 2, 2

    def __call__(self, text: str) -> list[int]:
        return [3 + len(word) for word in text.split()]


class MER2023Dataset(Dataset):
    def __init__(self, store: merstore.Store, on_miss: str) -> None:
        self.tokenizer = Tokenizer()
        self.reader = Reader(store, "mer2023", CONFIG, on_miss=on_miss)

    def __len__(self) -> int:
        return len(NAMES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        prompt, answer = self.tokenizer("What does she feel?"), self.tokenizer("Joy ###")
        return self.reader.item(NAMES[index], prompt, answer)

    def collater(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        return collate(items, self.tokenizer)


def fill(store: merstore.Store) -> None:
    """What `merstore import features.mer ./preextracted_features` makes of the folders."""
    rng = np.random.default_rng(0)
    frame = store.create_view("mer2023/frame@CLIP_VIT_LARGE/emotion_peak_8frms", shape=(8, 768))
    audio = store.create_view("mer2023/audio@HUBERT_LARGE/8clips", shape=(8, 1024))
    frame.update({name: rng.random((8, 768), np.float32) for name in NAMES})
    audio.update({name: rng.random((8, 1024), np.float32) for name in NAMES[:-1]})
    audio.fail(NAMES[-1], "no_audio", "the clip has no sound")


if __name__ == "__main__":
    print(settings(CONFIG))
    with toy.store() as store, merstore.open(store.path, "a") as opened:
        fill(opened)
        for on_miss in ("mask", "raise"):
            dataset = MER2023Dataset(opened, on_miss)
            loader = DataLoader(dataset, batch_size=4, collate_fn=dataset.collater)
            try:
                for batch in loader:
                    there = batch["audios_mask"].tolist() if on_miss == "mask" else "all"
                    print(
                        f"{on_miss}: frames {list(batch['frames'].shape)}, audios {list(batch['audios'].shape)}, "
                        f"ids {list(batch['input_ids'].shape)}, with sound: {there}"
                    )
            except merstore.MerstoreError as error:
                print(f"{on_miss}:", str(error).partition(". ")[0])
        reader = Reader(opened, "mer2023", CONFIG)
        whole = reader.batch(NAMES[:4])  # the same, gathered at once
        items = collate([reader.item(name) for name in NAMES[:4]])
        print("one gather, the same frames:", torch.equal(whole["frames"], items["frames"]))
