"""A whole MERTools dataset folder into a store and out again: features, labels, transcripts, faces, media."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import merstore
from merstore.corpora import open_corpus, read_labels, read_transcripts
from merstore.interop.bridging import export_corpus, import_corpus

EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


def make(root: Path) -> None:
    """A folder as MERTools processes MER2023, with twelve samples of noise."""
    rng = np.random.default_rng(0)
    names = [f"sample_{i:08d}" for i in range(12)]
    for below in ("features/chinese-hubert-large-UTT", "features/eGeMAPS_FRA", "audio", "video"):
        (root / below).mkdir(parents=True)
    for i, name in enumerate(names):
        np.save(
            root / f"features/chinese-hubert-large-UTT/{name}.npy", rng.random(1024, np.float32)
        )
        np.save(root / f"features/eGeMAPS_FRA/{name}.npy", rng.random((20 + i, 23), np.float32))
        (root / "openface_face" / name).mkdir(parents=True)
        faces = rng.integers(0, 255, (5 + i, 112, 112, 3), np.uint8)
        np.save(root / "openface_face" / name / f"{name}.npy", faces)
        (root / "audio" / f"{name}.wav").write_bytes(rng.bytes(100))
        (root / "video" / f"{name}.mp4").write_bytes(rng.bytes(100))
    labels = {name: {"emo": EMOTIONS[i % 6], "val": i / 2 - 3} for i, name in enumerate(names)}
    splits = {"train": names[:8], "test1": names[8:10], "test2": names[10:11], "test3": names[11:]}
    np.savez_compressed(
        root / "label-6way.npz",
        **{f"{k}_corpus": np.array({n: labels[n] for n in v}, object) for k, v in splits.items()},
    )
    rows = [f"{name},第{i}句。,Sentence {i}." for i, name in enumerate(names)]
    text = "\n".join(["name,chinese,english", *rows, ""])
    (root / "transcription-engchi-polish.csv").write_text(text, encoding="utf-8")


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        root, out = Path(folder) / "mer2023-dataset-process", Path(folder) / "out"
        make(root)
        with merstore.open(Path(folder) / "mer2023.mer", "a") as store:
            # On the command line: merstore import mer2023.mer mer2023-dataset-process --corpus mer2023
            done = import_corpus(store, open_corpus("mer2023", root))
            for path, view in store.items():
                print(f"{path}: {len(view)} entries {view.shape} {view.dtype}")
            print("refused:", len(done.report.refused))
            labels, texts = (
                read_labels(store, "mer2023"),
                read_transcripts(store, "mer2023", "english"),
            )
            first = labels.splits()["test1"][0]
            print(f"{first}: {labels.samples[first].values['emo']}, {texts.texts[first]}")

            # merstore export mer2023.mer out --corpus mer2023
            export_corpus(store, open_corpus("mer2023", root).table, out)
        before, after = files(root), files(out)
        same = [file for file in before if after.get(file) == before[file]]
        print(f"{len(same)} of {len(before)} files are the same bytes")
        print("differs:", *(file for file in before if file not in same))
