"""AffectGPT's and MERTools' folder names stand for views, both ways; datasets have one key."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merstore.errors import InvalidKey
from merstore.store import legacy
from merstore.store.legacy import dataset_key, folder_name, view_tail

SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")

LEVELS = ("UTT", "FRA")
AFFECTGPT = [
    *(
        f"frame_{encoder}_{sampling}_{n}frms"
        for encoder in legacy.AFFECTGPT_VISUAL
        for sampling in ("uniform", "headtail", "emotion_peak")
        for n in (6, 8)
    ),
    *(f"face_{encoder}_8frms" for encoder in legacy.AFFECTGPT_VISUAL),
    *(f"audio_{encoder}_8clips" for encoder in legacy.AFFECTGPT_ACOUSTIC),
    "au_CLIP_VITB32_8frms",
    "au_CLIP_VITB32_512d_8frms",
    *(
        f"multi_{visual}_{acoustic}_{how}"
        for visual in legacy.AFFECTGPT_VISUAL
        for acoustic in legacy.AFFECTGPT_ACOUSTIC
        for how in ("complete", "simple")
    ),
]
MERTOOLS = [
    *(
        f"{base}{separator}{level}"
        for base, (_, separator) in legacy.MERTOOLS_BASES.items()
        for level in LEVELS
    ),
    *(
        f"{base}{separator}{variant}{separator}{level}"
        for base, (modality, separator) in legacy.MERTOOLS_BASES.items()
        for variant, of in legacy.MERTOOLS_VARIANTS.items()
        if of == modality
        for level in LEVELS
    ),
    "pretrain-videomae-base-VoxCeleb2-99",
]


@pytest.mark.parametrize(
    ("folder", "tail"),
    [
        ("frame_CLIP_VIT_LARGE_emotion_peak_8frms", "frame@CLIP_VIT_LARGE/emotion_peak_8frms"),
        ("frame_CLIP_VIT_LARGE_headtail_6frms", "frame@CLIP_VIT_LARGE/headtail_6frms"),
        ("face_CLIP_VIT_LARGE_8frms", "face@CLIP_VIT_LARGE/8frms"),
        ("audio_HUBERT_LARGE_8clips", "audio@HUBERT_LARGE/8clips"),
        ("au_CLIP_VITB32_8frms", "au@CLIP_VITB32/8frms"),
        ("au_CLIP_VITB32_512d_8frms", "au@CLIP_VITB32_512d/8frms"),
        (
            "multi_EVA_CLIP_G_NO_QFORMER_HUBERT_LARGE_simple",
            "multi@EVA_CLIP_G_NO_QFORMER+HUBERT_LARGE/simple",
        ),
        ("chinese-hubert-large-UTT", "audio@chinese-hubert-large/UTT"),
        ("chinese-hubert-large-noisesnr5-UTT", "audio@chinese-hubert-large-noisesnr5/UTT"),
        ("eGeMAPS_noisesnrmix_FRA", "audio@eGeMAPS_noisesnrmix/FRA"),
        ("mel_spec_UTT", "audio@mel_spec/UTT"),
        ("Baichuan-13B-Base-FRA", "text@Baichuan-13B-Base/FRA"),
        ("chinese-macbert-large-4-UTT", "text@chinese-macbert-large-4/UTT"),
        ("bloom-7b1-langeng-UTT", "text@bloom-7b1-langeng/UTT"),
        ("clip-vit-large-patch14-UTT", "face@clip-vit-large-patch14/UTT"),
        ("eva02_base_patch14_224-FRA", "face@eva02_base_patch14_224/FRA"),
        ("resnet50face_UTT", "face@resnet50face/UTT"),
        ("pretrain-videomae-base", "face@pretrain-videomae-base/unstated"),
    ],
)
def test_known_spellings(folder: str, tail: str) -> None:
    assert view_tail(folder) == tail
    assert folder_name(tail) == folder


def test_the_tables_have_what_mertools_registers() -> None:
    count = Counter(modality for modality, _ in legacy.MERTOOLS_BASES.values())
    assert count == {"audio": 23, "text": 58, "face": 18}


def test_every_name_of_the_tables_comes_back() -> None:
    for folder in AFFECTGPT + MERTOOLS:
        tail = view_tail(folder)
        what, sampling = tail.split("/")
        modality, encoder = what.split("@")
        assert all(SEGMENT.fullmatch(part) for part in (modality, encoder, sampling)), tail
        assert folder_name(tail) == folder


def test_no_two_names_of_the_tables_mean_the_same_view() -> None:
    folders = AFFECTGPT + MERTOOLS
    assert len({view_tail(folder) for folder in folders}) == len(folders)


@pytest.mark.parametrize(
    ("right", "wrong"), [("manet_UTT", "manet-UTT"), ("t5-base-FRA", "t5-base_FRA")]
)
def test_either_separator_is_read_and_the_usual_one_is_written(right: str, wrong: str) -> None:
    assert view_tail(wrong) == view_tail(right)
    assert folder_name(view_tail(wrong)) == right


@given(encoder=st.from_regex(SEGMENT, fullmatch=True), n=st.integers(1, 64))
def test_a_stated_sampling_makes_any_encoder_readable(encoder: str, n: int) -> None:
    tail = f"frame@{encoder}/uniform_{n}frms"
    assert folder_name(tail) == f"frame_{encoder}_uniform_{n}frms"
    assert view_tail(f"frame_{encoder}_uniform_{n}frms") == tail


@given(
    modality=st.sampled_from(["audio", "text", "video", "frame"]),
    encoder=st.from_regex(SEGMENT, fullmatch=True),
    sampling=st.sampled_from(
        ["UTT", "FRA", "uniform_8frms", "8clips", "8frms", "unstated", "other"]
    ),
)
def test_a_folder_name_leads_back_to_its_view(modality: str, encoder: str, sampling: str) -> None:
    tail = f"{modality}@{encoder}/{sampling}"
    folder = folder_name(tail)
    assert folder is None or view_tail(folder, modality) == tail


def test_unknown_names_ask_for_the_modality_and_show_what_is_near() -> None:
    with pytest.raises(InvalidKey, match=r"give the modality.*chinese-hubert-large"):
        view_tail("chinese-hubbert-large-UTT")
    assert view_tail("chinese-hubbert-large-UTT", "audio") == "audio@chinese-hubbert-large/UTT"
    assert view_tail("whatever", "audio") == "audio@whatever/unstated"


@pytest.mark.parametrize(
    "folder",
    [
        "",
        "UTT",
        "frame_CLIP_VIT_LARGE_emotion_peak_range_8frms",  # a sampling rule that is not in the table
        "face_unheard_of_8frms",
        "manet_noisesnr5_UTT",  # noise is a variant of audio
        "chinese-hubert-large",
        "chinese-hubert-large-UTTERANCE",
        "Chinese-Hubert-Large-UTT",
    ],
)
def test_what_the_tables_do_not_settle_is_not_guessed(folder: str) -> None:
    with pytest.raises(InvalidKey, match="give the modality"):
        view_tail(folder)


def test_a_modality_that_contradicts_the_name_is_refused() -> None:
    with pytest.raises(InvalidKey, match="'audio' features, not 'text'"):
        view_tail("chinese-hubert-large-UTT", "text")


@pytest.mark.parametrize("folder", ["my encoder-UTT", "-x-UTT", "größe-UTT", "a@b-UTT", "a/b-UTT"])
def test_names_that_cannot_stand_in_a_view_path_are_refused(folder: str) -> None:
    with pytest.raises(InvalidKey, match="is no view path"):
        view_tail(folder, "audio")


@pytest.mark.parametrize(
    "tail", ["audio/UTT", "audio@x", "audio@x/UTT/y", "multi@a+b/complete", ""]
)
def test_tails_without_a_legacy_name(tail: str) -> None:
    assert folder_name(tail) is None


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("MER2023", "mer2023"),
        ("mer2023", "mer2023"),
        ("mer2024-dataset-process", "mer2024"),
        ("iemocapfour", "iemocap"),
        ("IEMOCAPFour", "iemocap"),
        ("IEMOCAPSix", "iemocap"),
        ("CMU-MOSEI", "cmumosei"),
        ("CH-SIMS v2", "simsv2"),
        ("OV-MERD+", "ovmerdplus"),
        ("OV-MERD", "ovmerd"),
        ("MyCorpus", "MyCorpus"),
    ],
)
def test_a_dataset_has_one_key(name: str, key: str) -> None:
    assert dataset_key(name) == key


def test_dataset_keys_are_path_segments_and_their_own_key() -> None:
    for key, spellings in legacy.AFFECTGPT_DATASETS.items():
        assert SEGMENT.fullmatch(key)
        assert {dataset_key(name) for name in (key, *spellings)} == {key}
