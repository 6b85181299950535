"""Whatever labels and texts a store holds, the files written of them say the same."""

import csv
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import IN_MEMORY, sample_names

import merstore
from merstore.corpora import open_corpus, store_labels
from merstore.interop.label_files import label_files

EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
VALENCES = st.floats(allow_nan=False, allow_infinity=False) | st.just(-10)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
SPLITS = ("train", "test1", "test2", "test3")


@settings(max_examples=60)
@given(
    st.dictionaries(
        sample_names(),
        st.tuples(st.sampled_from(SPLITS), st.sampled_from(EMOTIONS), VALENCES, TEXTS, TEXTS),
        min_size=1,
        max_size=8,
    )
)
def test_labels_and_texts_survive(samples: dict[str, tuple[str, str, float, str, str]]) -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        root, out = Path(folder) / "in", Path(folder) / "out"
        root.mkdir()
        out.mkdir()
        arrays = {
            f"{split}_corpus": np.array(
                {
                    n: {"emo": emo, "val": val}
                    for n, (s, emo, val, *_) in samples.items()
                    if s == split
                },
                object,
            )
            for split in SPLITS
        }
        np.savez_compressed(root / "label-6way.npz", **arrays)  # type: ignore[arg-type]
        with (root / "transcription-engchi-polish.csv").open(
            "w", encoding="utf-8", newline=""
        ) as file:
            writer = csv.writer(file, quoting=csv.QUOTE_ALL)
            writer.writerow(["name", "chinese", "english"])
            writer.writerows([name, *row[3:]] for name, row in samples.items())
        corpus = open_corpus("mer2023", root)
        with merstore.open(Path(folder) / "store.mer", "a") as store:
            store_labels(store, corpus)
            for name, content in label_files(store, corpus.table):
                (out / name).write_bytes(content)
        again = open_corpus("mer2023", out)
        assert list(again.labels().samples.items()) == list(corpus.labels().samples.items())
        for name in ("english", "chinese"):
            assert again.transcripts(name).texts == corpus.transcripts(name).texts
