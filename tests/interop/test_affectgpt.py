"""What AffectGPT's dataset class gets from its .npy files it gets from a store, to the bit."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import merstore
from merstore.errors import InvalidKey, InvalidTensor, MerstoreError, MissingEntry, UnknownView
from merstore.interop.affectgpt import Reader, collate, settings, text_pieces
from merstore.interop.importing import import_tree
from merstore.interop.trees import discover
from merstore.store.store import Store
from merstore.store.view import View

NAMES = ["-MeTTeMJBNc_0", "sample_00000001", "sample_00000002"]
FRAME = "frame_CLIP_VIT_LARGE_emotion_peak_8frms"
SHAPES = {
    FRAME: (8, 768),
    "frame_CLIP_VIT_LARGE_uniform_8frms": (8, 768),
    "face_CLIP_VIT_LARGE_8frms": (8, 768),
    "audio_HUBERT_LARGE_8clips": (8, 1024),
}
ALL_STORED = {
    "face_or_frame": "multiface_audio_face_frame_text",
    "frame_sampling": "emotion_peak",
    "frame_n_frms": 8,
    "use_preextracted_frame": True,
    "use_preextracted_face": True,
    "use_preextracted_audio": True,
}


def write_tree(root: Path, dataset: str = "mer2023") -> Path:
    rng = np.random.default_rng(1)
    for folder, shape in SHAPES.items():
        (root / dataset / folder).mkdir(parents=True)
        for name in NAMES:
            np.save(root / dataset / folder / f"{name}.npy", rng.random(shape, np.float32))
    au = root / dataset / "au_CLIP_VITB32_8frms"
    au.mkdir()
    for rows, name in enumerate(NAMES, 1):
        np.save(au / f"{name}.npy", rng.random((rows, 512)).astype(np.float16))
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "preextracted_features")


@pytest.fixture
def filled(store: Store, tree: Path) -> Store:
    report = import_tree(store, discover(tree))
    assert (report.imported, report.refused) == (15, [])
    return store


def reference_sample(root: Path, dataset: str, name: str) -> dict[str, Any]:
    """Straight from the files: a float tensor for each modality, under two keys."""
    loaded = {
        "frame": torch.from_numpy(np.load(root / dataset / FRAME / f"{name}.npy")).float(),
        "face": torch.from_numpy(
            np.load(root / dataset / "face_CLIP_VIT_LARGE_8frms" / f"{name}.npy")
        ).float(),
        "audio": torch.from_numpy(
            np.load(root / dataset / "audio_HUBERT_LARGE_8clips" / f"{name}.npy")
        ).float(),
    }
    sample: dict[str, Any] = {}
    for modality, tensor in loaded.items():
        sample[modality] = tensor
        sample[f"raw_{modality}"] = tensor
        sample[f"{modality}_preextracted"] = True
    for modality in ("image", "multi"):
        sample[modality] = None
        sample[f"raw_{modality}"] = None
    return sample


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(one == other)


# --- samples -------------------------------------------------------------------------------------


def test_a_sample_is_what_the_files_give(filled: Store, tree: Path) -> None:
    reader = Reader(filled, "MER2023", ALL_STORED)
    assert list(reader) == NAMES
    for name in NAMES:
        sample, reference = reader[name], reference_sample(tree, "mer2023", name)
        assert sample.keys() == reference.keys()
        assert all(same(sample[key], reference[key]) for key in reference)
        assert sample["frame"] is sample["raw_frame"]


@pytest.mark.parametrize("folder", ["iemocap", "iemocapfour"])
def test_both_folders_of_iemocap_are_one_dataset(folder: str, store: Store, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "features", folder)
    import_tree(store, discover(tree))
    reader = Reader(store, "IEMOCAPFour", ALL_STORED)
    item = reader.item(NAMES[0])
    assert same(item["audio"], reference_sample(tree, folder, NAMES[0])["audio"])
    assert item["dataset"] == "iemocapfour"


def test_au_features_differ_in_length_and_come_as_float32(filled: Store, tree: Path) -> None:
    config = ALL_STORED | {
        "face_or_frame": "multiface_audio_face_frame_au_text",
        "use_preextracted_au": True,
    }
    reader = Reader(filled, "mer2023", config)
    for name in NAMES:
        file = np.load(tree / "mer2023" / "au_CLIP_VITB32_8frms" / f"{name}.npy")
        assert same(reader[name]["au"], torch.from_numpy(file).float())
    with pytest.raises(InvalidTensor, match=r"au: .*1 rows \(-Me.*2 rows \(sample_00000001\)"):
        reader.batch(NAMES)
    assert reader.batch(NAMES[1:2])["aus"].shape == (1, 2, 512)


def test_the_flags_tell_of_what_was_loaded(filled: Store) -> None:
    config = ALL_STORED | {"use_preextracted_audio": False}
    sample = Reader(filled, "mer2023", config)[NAMES[0]]
    assert sample["audio"] is None
    assert (sample["frame_preextracted"], sample["audio_preextracted"]) == (True, False)


def test_the_texts_of_an_item(filled: Store) -> None:
    item = Reader(filled, "mer2023", ALL_STORED).item(NAMES[0], [5, 6, 7], [8, 9])
    assert item["text_input"].tolist() == [5, 6, 7, 8, 9]
    assert item["label"].tolist() == [-100, -100, -100, 8, 9]
    assert item["face_or_frame"] == "multiface_audio_face_frame_text"
    assert item["multi_preextracted"] is False
    assert text_pieces(range(9), [], 4)["text_input"].tolist() == [0, 1, 2, 3]
    with pytest.raises(InvalidTensor, match=r"4 \+ 1 tokens, more than max_length 4"):
        text_pieces(range(9), [1], 4)
    with pytest.raises(InvalidTensor, match="mer2023/-MeTTeMJBNc_0"):
        Reader(filled, "mer2023", ALL_STORED).item(NAMES[0], [1], [1], 1)


def test_a_reader_goes_to_another_process(filled: Store) -> None:
    reader = Reader(filled, "mer2023", ALL_STORED, on_miss="mask")
    copy = pickle.loads(pickle.dumps(reader))
    assert same(copy[NAMES[1]]["face"], reader[NAMES[1]]["face"])
    copy.store.close()


# --- what is missing -----------------------------------------------------------------------------


def test_what_is_missing_is_an_error_that_says_why(filled: Store) -> None:
    reader = Reader(filled, "mer2023", ALL_STORED)
    with pytest.raises(MissingEntry, match="frame@CLIP_VIT_LARGE/emotion_peak_8frms lacks 1"):
        reader["sample_00000003"]
    assert "sample_00000003" not in reader
    filled["mer2023/audio@HUBERT_LARGE/8clips"].fail("broken", "no_audio", "has no sound")
    config = {"face_or_frame": "audioonly", "use_preextracted_audio": True}
    with pytest.raises(MissingEntry, match="has no sound"):
        Reader(filled, "mer2023", config)["broken"]


def test_what_is_missing_is_masked_where_that_was_asked_for(filled: Store) -> None:
    audio = filled["mer2023/audio@HUBERT_LARGE/8clips"]
    del audio[NAMES[0]]
    reader = Reader(filled, "mer2023", ALL_STORED, on_miss="mask")
    assert list(reader) == NAMES
    sample = reader[NAMES[0]]
    assert (sample["audio_mask"], sample["frame_mask"]) == (False, True)
    assert same(sample["audio"], torch.zeros(8, 1024))
    assert sample["audio_preextracted"]
    batch = reader.batch(NAMES)
    assert batch["audios_mask"].tolist() == [False, True, True]
    assert not batch["audios"][0].any()
    assert batch["audios"][1:].any(dim=(1, 2)).all()
    collated = collate([reader.item(name) for name in NAMES])
    assert collated.keys() == batch.keys()
    assert all(same(collated[key], batch[key]) for key in batch)


class Counting:
    """Computes every sample as twos, but for those that it cannot."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def fill(self, view: View, names: list[str]) -> None:
        self.asked += names
        for name in names:
            if name == "broken":
                view.fail(name, "no_audio", "has no sound")
            else:
                view[name] = np.full((8, 1024), 2, np.float32)


def test_what_is_missing_is_computed_where_that_was_asked_for(filled: Store) -> None:
    filler = Counting()
    config = {"face_or_frame": "audioonly", "use_preextracted_audio": True}
    reader = Reader(filled, "mer2023", config, on_miss="fill", fillers={"audio": filler})
    assert (reader["new"]["audio"] == 2).all()
    assert reader["new"]["audio_mask"]
    broken = reader["broken"]
    assert not broken["audio_mask"]
    assert not broken["audio"].any()
    assert filler.asked == ["new", "broken"]
    with pytest.raises(InvalidKey, match="a filler for 'frame': audio"):
        Reader(filled, "mer2023", config, fillers={"frame": filler})


def test_a_masked_row_of_a_sequence_takes_the_length_of_the_others(store: Store) -> None:
    view = store.create_view("mer2023/frame@CLIP_VIT_LARGE/headtail_7frms", shape=(None, 4))
    view.update({"a": np.ones((6, 4), np.float32), "b": np.ones((6, 4), np.float32)})
    config = {
        "face_or_frame": "frameonly",
        "use_preextracted_frame": True,
        "frame_sampling": "headtail",
        "frame_n_frms": 7,
    }
    reader = Reader(store, "mer2023", config, on_miss="mask")
    assert reader["gone"]["frame"].shape == (7, 4)
    batch = reader.batch(["a", "gone", "b"])
    assert batch["frames"].shape == (3, 6, 4)
    collated = collate([reader.item(name) for name in ("a", "gone", "b")])
    assert same(collated["frames"], batch["frames"])
    assert reader.batch(["gone"])["frames"].shape == (1, 7, 4)


# --- batches -------------------------------------------------------------------------------------

TOKENIZER = SimpleNamespace(bos_token_id=1, eos_token_id=2, pad_token_id=2)


def test_a_batch_has_the_plural_keys_of_stacked_tensors(filled: Store, tree: Path) -> None:
    reader = Reader(filled, "mer2023", ALL_STORED)
    items = [reader.item(name, [5, 6][: i + 1], [7]) for i, name in enumerate(NAMES[:2])]
    batch = collate(items, TOKENIZER)
    references = [reference_sample(tree, "mer2023", name) for name in NAMES[:2]]
    for modality in ("frame", "face", "audio"):
        expected = torch.stack([reference[modality] for reference in references])
        assert same(batch[f"{modality}s"], expected)
        assert same(batch[f"raw_{modality}s"], expected)
        assert batch[f"{modality}_preextracted"] is True
    assert batch["input_ids"].tolist() == [[1, 5, 7, 2, 2], [1, 5, 6, 7, 2]]
    assert batch["labels"].tolist() == [[-100, -100, 7, 2, -100], [-100, -100, -100, 7, 2]]
    # the padding's id is that of the end, which is masked with it, as in the fork
    assert batch["attention_masks"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    assert (batch["dataset"], batch["face_or_frame"]) == ("mer2023", ALL_STORED["face_or_frame"])
    gathered = reader.batch(NAMES[:2])
    assert all(same(gathered[key], batch[key]) for key in gathered)


def test_a_modality_does_not_vanish_from_a_batch(filled: Store) -> None:
    reader = Reader(filled, "mer2023", ALL_STORED)
    items = [reader.item(name) for name in NAMES]
    lacking = [items[0], items[1] | {"audio": None, "raw_audio": None}, items[2]]
    with pytest.raises(MissingEntry, match=r"audio: 1 of 3 .*: sample_00000001\."):
        collate(lacking)
    batch = collate(lacking, on_miss="mask")
    assert batch["audios_mask"].tolist() == [True, False, True]
    assert batch["frames_mask"].all()
    assert same(batch["audios"][2], items[2]["audio"])
    assert not batch["audios"][1].any()
    other = [items[0], items[1] | {"face": torch.zeros(7, 768)}]
    for on_miss in ("raise", "mask"):
        with pytest.raises(InvalidTensor, match=r"face: .*\[8, 768\].*\[7, 768\] \(sample_0"):
            collate(other, on_miss=on_miss)
    none = [item | {"audio": None, "raw_audio": None} for item in items]
    with pytest.raises(MissingEntry, match="needs audio, and no sample of the batch"):
        collate(none, on_miss="mask")


def test_two_lacking_modalities_are_not_mixed_up(filled: Store) -> None:
    items = [Reader(filled, "mer2023", ALL_STORED).item(name) for name in NAMES[:2]]
    nothing = dict.fromkeys(("audio", "raw_audio", "face", "raw_face"))
    batch = collate([items[0] | nothing, items[1]], on_miss="mask")
    assert (batch["faces"].shape, batch["audios"].shape) == ((2, 8, 768), (2, 8, 1024))


def test_what_is_stored_and_what_is_computed_are_not_mixed(filled: Store) -> None:
    items = [Reader(filled, "mer2023", ALL_STORED).item(name) for name in NAMES]
    with pytest.raises(MerstoreError, match=r"different face_preextracted \((True|False)"):
        collate([items[0], items[1] | {"face_preextracted": False}])


def test_a_tokenizer_needs_its_special_tokens(filled: Store) -> None:
    item = Reader(filled, "mer2023", ALL_STORED).item(NAMES[0], [1], [2])
    with pytest.raises(MerstoreError, match="no bos_token"):
        collate([item], SimpleNamespace(eos_token_id=1, pad_token_id=1))
    with pytest.raises(MerstoreError, match="give the tokenizer"):
        collate([item])


# --- configurations ------------------------------------------------------------------------------

YAML: dict[str, Any] = {
    "model": {"arch": "affectgpt", "vis_processor": {"train": {"n_frms": 8}}},
    "datasets": {
        "mercaptionplus": {
            "data_type": "video",
            "face_or_frame": "multiface_audio_face_text",
            "label_type": "hybird",
            "use_preextracted_features": True,
            "use_preextracted_frame": True,
            "use_preextracted_face": True,
            "use_preextracted_audio": False,
            "use_preextracted_audios": True,
            "preextracted_root": "features.mer",
        }
    },
    "run": {"task": "video_text_pretrain"},
    "inference": {
        "face_or_frame": "faceframe",
        "frame_sampling": "emotion_peak",
        "frame_n_frms": 8,
        "use_preextracted_face": True,
        "gpu": 0,
    },
}


def test_every_key_of_a_training_section_is_accounted_for() -> None:
    sources = settings(YAML)
    assert sources.dataset == "mercaptionplus"
    assert sources.features == {"face": "face_CLIP_VIT_LARGE_8frms"}
    assert sources.live == ("audio",)
    assert sources.root == "features.mer"
    told = {outcome.key.rpartition(".")[2]: outcome for outcome in sources.keys}
    assert YAML["datasets"]["mercaptionplus"].keys() <= told.keys()
    used = {key for key, outcome in told.items() if outcome.used}
    assert used == {
        "face_or_frame", "use_preextracted_face", "use_preextracted_audio", "preextracted_root",
        "visual_encoder",
    }  # fmt: skip
    ignored = sources.ignored
    at = "datasets.mercaptionplus."
    assert "needs no frame" in ignored[f"{at}use_preextracted_frame"]
    assert "use_preextracted_frame, " in ignored[f"{at}use_preextracted_features"]
    assert "did you mean use_preextracted_audio?" in ignored[f"{at}use_preextracted_audios"]
    assert {"model", "run", "inference"} <= ignored.keys()
    assert "visual_encoder = 'CLIP_VIT_LARGE': used: not given, this is the default" in str(sources)


def test_at_inference_the_sampling_asks_for_stored_frames() -> None:
    sources = settings(YAML, "MER2023", section="inference", face_or_frame="faceframe")
    assert sources.features == {"frame": FRAME, "face": "face_CLIP_VIT_LARGE_8frms"}
    assert sources.root == "./preextracted_features"
    uniform = YAML | {"inference": YAML["inference"] | {"frame_sampling": "uniform"}}
    there = settings(uniform, "mer2023", section="inference", face_or_frame="faceframe")
    assert set(there.features) == {"face"}
    uniform["inference"]["use_preextracted_frame"] = True
    asked = settings(uniform, "mer2023", section="inference", face_or_frame="faceframe")
    assert asked.features["frame"] == "frame_CLIP_VIT_LARGE_uniform_8frms"
    # the number of frames is the model's where the section has none
    short = {key: value for key, value in YAML["inference"].items() if key != "frame_n_frms"}
    four = settings(
        YAML | {"inference": short}, "mer2023", section="inference", face_or_frame="frame"
    )
    assert four.features["frame"] == FRAME
    assert [o.value for o in four.keys if o.used and o.key.startswith("model.")] == [8]
    # as for the runner, the mode is that of the training data's section
    mode = settings(YAML, "mer2023", section="inference").mode
    assert mode == "multiface_audio_face_text"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"face_or_frame": "face_frame_audio_au"}, "no mode of the fork; near: .*frame"),
        ({"frame_n_frms": None}, "frame_n_frms: how many frames"),
        ({"frame_n_frms": "8"}, "frame_n_frms: '8' is no int"),
        ({"use_preextracted_face": "yes"}, "use_preextracted_face: 'yes' is no bool"),
    ],
)
def test_values_that_make_no_sense(change: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidKey, match=told):
        settings(ALL_STORED | change, "mer2023")


def test_the_dataset_has_to_be_told() -> None:
    with pytest.raises(InvalidKey, match="give the dataset"):
        settings(ALL_STORED)
    two = {"datasets": {"mer2023": {}, "meld": {}}}
    with pytest.raises(InvalidKey, match="mer2023, meld: say which"):
        settings(two)
    with pytest.raises(InvalidKey, match="'sims' is none of them"):
        settings(two, "sims")
    assert settings(two, "MELD").dataset == "meld"


# --- the root ------------------------------------------------------------------------------------


def test_the_root_is_the_store_with_or_without_the_dataset(filled: Store) -> None:
    for root in (filled.path, filled.path / "mer2023"):
        reader = Reader(None, "mer2023", ALL_STORED | {"preextracted_root": str(root)})
        assert list(reader) == NAMES
        reader.store.close()
    with merstore.open(filled.path) as opened:
        assert list(Reader(opened, None, settings(ALL_STORED, "mer2023"))) == NAMES


def test_a_tree_has_to_be_imported(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match=r"no store but a folder.*merstore import"):
        Reader(None, "mer2023", ALL_STORED | {"preextracted_root": str(tree)})
    with pytest.raises(MerstoreError, match="no such store"):
        Reader(tmp_path / "nothing.mer", "mer2023", ALL_STORED)
    with pytest.raises(MerstoreError, match="preextracted_root is not given"):
        Reader(None, "mer2023", ALL_STORED)


def test_features_of_another_sampling_are_not_served(filled: Store) -> None:
    with pytest.raises(UnknownView, match=r"headtail_8frms.*near: .*of dataset mer2023: import"):
        Reader(filled, "mer2023", ALL_STORED | {"frame_sampling": "headtail"})
