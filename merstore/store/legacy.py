"""Legacy spellings: AffectGPT's and MERTools' feature folders, and the names of datasets.

A feature folder's name maps to the last two parts of a view path (its *tail*,
``modality@encoder/sampling``) and back. The mapping goes by the tables below, which list what those
code bases write. A name that they do not settle is refused, with the nearest known ones, unless its
modality is given.

AffectGPT states the modality and how time was sampled; where it names no sampling, neither do we::

    frame_CLIP_VIT_LARGE_emotion_peak_8frms     frame@CLIP_VIT_LARGE/emotion_peak_8frms
    face_CLIP_VIT_LARGE_8frms                   face@CLIP_VIT_LARGE/8frms
    audio_HUBERT_LARGE_8clips                   audio@HUBERT_LARGE/8clips
    au_CLIP_VITB32_8frms                        au@CLIP_VITB32/8frms
    multi_CLIP_VIT_LARGE_HUBERT_LARGE_complete  multi@CLIP_VIT_LARGE+HUBERT_LARGE/complete

MERTools states the encoder, variants of it, a separator that depends on the extractor, and the
level (``UTT``: one vector, ``FRA``: a sequence). The modality is known from the encoder only; what
it calls visual is computed on face tracks, hence ``face``. Variants stay in the encoder's name::

    chinese-hubert-large-UTT                    audio@chinese-hubert-large/UTT
    eGeMAPS_noisesnr10_FRA                      audio@eGeMAPS_noisesnr10/FRA
    chinese-macbert-large-4-UTT                 text@chinese-macbert-large-4/UTT
    clip-vit-large-patch14-UTT                  face@clip-vit-large-patch14/UTT
    pretrain-<name>                             face@pretrain-<name>/unstated
"""

import difflib
import re

from merstore.errors import InvalidKey
from merstore.store.keys import parse_view

__all__ = [
    "AFFECTGPT_DATASETS",
    "MERTOOLS_BASES",
    "dataset_key",
    "folder_name",
    "is_affectgpt",
    "view_tail",
]

UNSTATED = "unstated"
"""The sampling of a view whose legacy name does not say how time was sampled."""

# --- AffectGPT -----------------------------------------------------------------------------------

AFFECTGPT_VISUAL = (
    "CLIP_VIT_LARGE",
    "EVA_CLIP_G",
    "EVA_CLIP_G_NO_QFORMER",
    "DINO2_LARGE",
    "SigLIP_SO",
)
AFFECTGPT_ACOUSTIC = ("HUBERT_LARGE", "WAVLM_LARGE", "DATA2VEC_BASE", "IMAGEBIND")
AFFECTGPT_AU = ("CLIP_VITB32", "CLIP_VITB32_512d")
AFFECTGPT_SAMPLINGS = ("uniform", "headtail", "emotion_peak")

# With a sampling rule, or a clip count, in the name there is one way to read it, whatever the
# encoder. In `frame_<encoder>_8frms` the encoder must be known: its end could be a sampling rule
# that we have not heard of.
_SAMPLED = re.compile(
    r"(?P<modality>frame|face)_(?P<encoder>.+)"
    rf"_(?P<sampling>(?:{'|'.join(AFFECTGPT_SAMPLINGS)})_\d+frms)"
)
_CLIPS = re.compile(r"(?P<modality>audio)_(?P<encoder>.+)_(?P<sampling>\d+clips)")
_UNSAMPLED = re.compile(r"(?P<modality>frame|face|au)_(?P<encoder>.+)_(?P<sampling>\d+frms)")
_MULTI = re.compile(
    rf"multi_(?P<visual>{'|'.join(AFFECTGPT_VISUAL)})"
    rf"_(?P<acoustic>{'|'.join(AFFECTGPT_ACOUSTIC)})"
    r"_(?P<sampling>complete|simple)"
)
_UNSAMPLED_ENCODERS = {"frame": AFFECTGPT_VISUAL, "face": AFFECTGPT_VISUAL, "au": AFFECTGPT_AU}

# --- MERTools ------------------------------------------------------------------------------------

_AUDIO = """
    chinese-hubert-base chinese-hubert-large chinese-wav2vec2-base chinese-wav2vec2-large
    wav2vec2-base-960h wav2vec2-large-960h wavlm-base wavlm-large
    data2vec-audio-base-960h data2vec-audio-large whisper-base whisper-large-v2
    wav2vec-large-z wav2vec-large-c emotion2vec emotion2vec-finetune
"""
_AUDIO_UNDERSCORE = "vggish eGeMAPS IS09 IS10 IS13 mel_spec mfcc"
_TEXT = """
    bert-base-chinese chinese-roberta-wwm-ext chinese-roberta-wwm-ext-large deberta-chinese-large
    chinese-electra-180g-small chinese-electra-180g-base chinese-electra-180g-large
    chinese-xlnet-base chinese-macbert-base chinese-macbert-large
    chinese-pert-base chinese-pert-large chinese-lert-small chinese-lert-base chinese-lert-large
    gpt2-chinese-cluecorpussmall taiyi-clip-roberta-chinese wenzhong2-gpt2-chinese
    albert_chinese_tiny albert_chinese_small simbert-base-chinese
    paraphrase-multilingual-mpnet-base-v2
    llama-7b-hf llama-13b-hf llama-2-7b Llama-2-13b-hf vicuna-7b-v0 stable-vicuna-13b moss-base-7b
    stablelm-base-alpha-7b-v2 bloom-7b1 chatglm2-6b falcon-7b Baichuan-7B Baichuan-13B-Base
    Baichuan2-7B-Base Baichuan2-13B-Base chinese-alpaca-2-13b opt-13b
    bert-base-cased bert-base-uncased bert-large-cased bert-large-uncased
    albert-base-v2 albert-large-v2 albert-xxlarge-v2 roberta-base roberta-large
    electra-base-discriminator electra-large-discriminator xlnet-base-cased xlnet-large-cased
    t5-base t5-large deberta-base deberta-large deberta-v2-xlarge deberta-v2-xxlarge
"""
_FACE = """
    clip-vit-base-patch32 clip-vit-large-patch14 data2vec-vision-base-ft1k
    dinov2-large dinov2-giant eva02_base_patch14_224
    videomae-base videomae-large sunlicai-videomae-base sunlicai-videomae-large
    videomae-base-VoxCeleb2-99 videomae-base-K400-mer2023-299
"""
_FACE_UNDERSCORE = "manet emonet resnet50face senet50face msceleb imagenet"

MERTOOLS_BASES: dict[str, tuple[str, str]] = {
    base: (modality, separator)
    for modality, separator, names in (
        ("audio", "-", _AUDIO),
        ("audio", "_", _AUDIO_UNDERSCORE),
        ("text", "-", _TEXT),
        ("face", "-", _FACE),
        ("face", "_", _FACE_UNDERSCORE),
    )
    for base in names.split()
}
"""Feature base -> (modality, the separator that its extractor puts in front of the level)."""

MERTOOLS_VARIANTS: dict[str, str] = {
    "noisesnr5": "audio",
    "noisesnr10": "audio",
    "noisesnr15": "audio",
    "noisesnrmix": "audio",
    "ttschi": "audio",
    "ttseng": "audio",
    "punccase1": "text",
    "punccase2": "text",
    "punccase3": "text",
    "langeng": "text",
    "4": "text",
}
"""Variant -> the modality that has it. ``4`` is MER2023's mark for "the last four layers"."""

_LEVEL = re.compile(r"(?P<encoder>.+)[-_](?P<level>UTT|FRA)")
_VARIANT = re.compile(rf"(?P<base>.+)[-_](?P<variant>{'|'.join(MERTOOLS_VARIANTS)})")

# --- datasets ------------------------------------------------------------------------------------

AFFECTGPT_DATASETS: dict[str, tuple[str, ...]] = {
    "mer2023": ("MER2023", "mer2023-dataset-process"),
    "mer2023_unlabel": ("MER2023_UNLABEL",),
    "mer2024": ("MER2024", "mer2024-dataset-process"),
    "mer2025": ("MER2025", "mer2025-dataset-process"),
    "mer2026": ("MER2026", "mer2026-dataset-process"),
    "mer2025ov": ("MER2025OV",),
    "meld": ("MELD", "meld-process"),
    # The four- and the six-class task are two label files over the same clips, hence one dataset.
    "iemocap": ("IEMOCAP", "IEMOCAPFour", "IEMOCAPSix", "iemocap-process"),
    "cmumosi": ("CMUMOSI", "CMU-MOSI", "cmumosi-process"),
    "cmumosei": ("CMUMOSEI", "CMU-MOSEI", "cmumosei-process"),
    "sims": ("SIMS", "CH-SIMS", "sims-process"),
    "simsv2": ("SIMSv2", "SIMS v2", "CH-SIMS v2", "CH-SIMSv2", "simsv2-process"),
    "ovmerdplus": ("OVMERDPlus", "OV-MERD+", "ovmerdplus-process"),
    "ovmerd": ("OVMERD", "OV-MERD", "EMER"),
    "mercaptionplus": ("MERCaptionPlus", "MER-Caption+"),
}
"""Canonical dataset key -> its spellings in code, folders and papers of the field, in any case."""

_DATASET_KEYS = {
    spelling.casefold(): key
    for key, spellings in AFFECTGPT_DATASETS.items()
    for spelling in (key, *spellings)
}


def dataset_key(name: str) -> str:
    """The canonical key of a dataset by any of its spellings (``"IEMOCAPFour"`` -> ``"iemocap"``).

    A dataset that is not in `AFFECTGPT_DATASETS` keeps its name as it is.
    """
    return _DATASET_KEYS.get(name.casefold(), name)


# --- folder <-> tail -----------------------------------------------------------------------------


def is_affectgpt(folder: str) -> bool:
    """Whether the name follows AffectGPT's grammar (any encoder) rather than MERTools'."""
    return _affectgpt(folder, any_encoder=True) is not None


def view_tail(folder: str, modality: str | None = None) -> str:
    """The ``modality@encoder/sampling`` that a legacy feature folder stands for.

    With `modality`, names that the tables do not have are taken too:
    ``view_tail("my-encoder-UTT", "audio")`` is ``"audio@my-encoder/UTT"``. Raises InvalidKey where
    the tables do not settle the name, where `modality` contradicts them, and where a part of the
    name may not stand in a view path.
    """
    parts = _affectgpt(folder, any_encoder=modality is not None) or _mertools(folder)
    if parts is None:
        if modality is None:
            raise InvalidKey(_unknown(folder))
        level = _LEVEL.fullmatch(folder)
        encoder, sampling = level.groups() if level else (folder, UNSTATED)
        parts = modality, encoder, sampling
    elif modality not in (None, parts[0]):
        raise InvalidKey(
            f"feature folder {folder!r} holds {parts[0]!r} features, not {modality!r}: "
            "leave the modality out, or rename the folder"
        )
    tail = "{}@{}/{}".format(*parts)
    try:
        parse_view(f"dataset/{tail}")
    except InvalidKey:
        raise InvalidKey(
            f"feature folder {folder!r} would be view {tail!r}, which is no view path (letters, "
            "digits and . _ + -, a letter or digit first): rename it, or give the view's path"
        ) from None
    return tail


def folder_name(tail: str) -> str | None:
    """The legacy folder name of a tail like ``audio@chinese-hubert-large/UTT``: `view_tail` undone.

    None where no legacy name means this tail.
    """
    matched = re.fullmatch(r"([^@/]+)@([^@/]+)/([^@/]+)", tail)
    if matched:
        modality, encoder, sampling = matched.groups()
        base, _ = _split_variants(encoder)
        _, separator = MERTOOLS_BASES.get(base, (modality, "-"))
        joined = encoder.replace("+", "_") if modality == "multi" else encoder
        for name in (f"{modality}_{joined}_{sampling}", f"{encoder}{separator}{sampling}", encoder):
            if tail in (_tail_or_none(name), _tail_or_none(name, modality)):
                return name
    return None


def _tail_or_none(folder: str, modality: str | None = None) -> str | None:
    try:
        return view_tail(folder, modality)
    except InvalidKey:
        return None


def _affectgpt(folder: str, any_encoder: bool) -> tuple[str, str, str] | None:
    if matched := _SAMPLED.fullmatch(folder) or _CLIPS.fullmatch(folder):
        return matched["modality"], matched["encoder"], matched["sampling"]
    if matched := _UNSAMPLED.fullmatch(folder):
        if any_encoder or matched["encoder"] in _UNSAMPLED_ENCODERS[matched["modality"]]:
            return matched["modality"], matched["encoder"], matched["sampling"]
        return None
    if matched := _MULTI.fullmatch(folder):
        return "multi", f"{matched['visual']}+{matched['acoustic']}", matched["sampling"]
    return None


def _mertools(folder: str) -> tuple[str, str, str] | None:
    if folder.startswith("pretrain-"):
        return "face", folder, UNSTATED
    matched = _LEVEL.fullmatch(folder)
    if matched is None:
        return None
    base, variants = _split_variants(matched["encoder"])
    modality, _ = MERTOOLS_BASES.get(base, (None, None))
    if modality is None or any(MERTOOLS_VARIANTS[variant] != modality for variant in variants):
        return None
    return modality, matched["encoder"], matched["level"]


def _split_variants(encoder: str) -> tuple[str, list[str]]:
    variants: list[str] = []
    while encoder not in MERTOOLS_BASES and (matched := _VARIANT.fullmatch(encoder)):
        encoder = matched["base"]
        variants.append(matched["variant"])
    return encoder, variants


def _unknown(folder: str) -> str:
    matched = _LEVEL.fullmatch(folder)
    name = matched["encoder"] if matched else folder
    known = [*MERTOOLS_BASES, *(f"frame_{encoder}_8frms" for encoder in AFFECTGPT_VISUAL)]
    near = difflib.get_close_matches(name, known, n=3)
    return f"feature folder {folder!r}: nothing says which modality it holds; give the modality" + (
        f" (nearest known: {', '.join(near)})" if near else ""
    )
