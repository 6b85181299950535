"""A small corpus with features that tell something, and its labels in a store."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from merstore.corpora.table import Field
from merstore.store.store import Store

CLASSES = ("neutral", "angry", "happy", "sad", "worried", "surprise")
FOLDERS = {
    "audio": "chinese-hubert-large-UTT",
    "text": "Baichuan-13B-Base-UTT",
    "video": "manet_UTT",
}
PATHS = ("audio@chinese-hubert-large/UTT", "text@Baichuan-13B-Base/UTT", "face@manet/UTT")
DIMS = (12, 20, 7)
SPLITS = {"train": 90, "test1": 30, "test3": 20}

Rows = Mapping[str, tuple[str, dict[str, object]]]  # name -> split, values


def labels_view(store: Store, dataset: str, name: str, rows: Rows, fields: Sequence[Field]) -> None:
    """As `merstore.corpora.store_labels` writes them."""
    spec = {
        "kind": "labels",
        "fields": [
            {"name": f.name, "type": f.type, "columns": list(f.columns), "classes": list(f.classes),
             "absent": f.absent, "placeholder": f.placeholder}
            for f in fields
        ],
        "sources": {},
    }  # fmt: skip
    view = store.create_view(f"{dataset}/label/{name}", dtype="uint8", shape=(None,), spec=spec)
    view.update(
        {
            sample: np.frombuffer(
                json.dumps({"split": split, "row": row, "values": values}).encode(), np.uint8
            )
            for row, (sample, (split, values)) in enumerate(rows.items())
        }
    )


def corpus(
    store: Store,
    dataset: str = "mer2023",
    splits: Mapping[str, int] = SPLITS,
    classes: Sequence[str] = CLASSES,
    values: bool = True,
    unlabelled: Sequence[str] = (),
    name: str = "6way",
    noise: float = 0.7,
    suffixes: Sequence[str] = ("",),
) -> dict[str, tuple[str, int, float]]:
    """Labels and three UTT views whose vectors are a class's centre, with noise. Name -> split, class
    and value. ``unlabelled`` splits have no labels. suffixes: of the encoders, one set of views each.
    """
    rng = np.random.default_rng(len(dataset))
    made: dict[str, tuple[str, int, float]] = {}
    for split, count in splits.items():
        for number in range(count):
            emo = int(rng.integers(max(len(classes), 2)))
            made[f"{split}_{number:04d}"] = (
                split,
                emo,
                float(emo - (1.5 if classes else 0.5) + rng.normal() / 4),
            )
    rows = {}
    for sample, (split, emo, val) in made.items():
        known = split not in unlabelled
        said: dict[str, object] = {}
        if classes:
            said["emo"] = classes[emo] if known else None
        if values:
            said["val"] = val if known and split != "test3" else None
        rows[sample] = split, said
    fields = [Field("emo", "class", ("emo",), tuple(classes))] if classes else []
    fields += [Field("val", "number", ("val",))] if values else []
    labels_view(store, dataset, name, rows, fields)
    for path, dim in zip(PATHS, DIMS, strict=True):
        centres = rng.normal(size=(max(len(classes), 2), dim))
        for suffix in suffixes:
            encoder, _, sampling = path.partition("/")
            view = store.create_view(f"{dataset}/{encoder}{suffix}/{sampling}", shape=(dim,))
            view.update(
                {
                    sample: (centres[emo] + noise * rng.normal(size=dim)).astype(np.float32)
                    for sample, (_, emo, _) in made.items()
                }
            )
    return made
