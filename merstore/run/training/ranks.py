"""Which features are best: MERTools' lists, and those that results in a store give.

Every list goes from worst to best; names are the bases of feature folders (``manet`` of
``manet_UTT``).
"""

from collections.abc import Mapping, Sequence

from merstore.errors import InvalidKey, MerstoreError, UnknownView
from merstore.run.training import results
from merstore.store.legacy import MERTOOLS_BASES
from merstore.store.store import Store

ROLES = ("audio", "text", "image")

MODALITIES = {
    "AVT": ("audio", "text", "image"),
    "AT": ("audio", "text", "text"),
    "AV": ("audio", "image", "image"),
    "VT": ("text", "text", "image"),
}
"""Which lists are joined: always three, so that there are 3n inputs (notes on MERTools 4.10)."""

_HUBERT = "chinese-wav2vec2-base chinese-wav2vec2-large chinese-hubert-base chinese-hubert-large"

_LISTS = {
    "MER2024": (
        f"eGeMAPS vggish whisper-base emotion2vec whisper-large-v2 {_HUBERT}",
        """chinese-xlnet-base chinese-electra-180g-large moss-base-7b chinese-pert-large
        chinese-pert-base chinese-lert-large chinese-electra-180g-base chinese-lert-base
        chinese-roberta-wwm-ext chinese-macbert-base chinese-roberta-wwm-ext-large chatglm2-6b
        chinese-macbert-large bloom-7b1 Baichuan-13B-Base""",
        """videomae-base emonet videomae-large dinov2-large senet50face resnet50face manet
        eva02_base_patch14_224 clip-vit-base-patch32 videomae-base-VoxCeleb2-99
        videomae-base-K400-mer2023-299 clip-vit-large-patch14""",
    ),
    "MERBench": (
        """eGeMAPS IS09 vggish wav2vec-large-c data2vec-audio-base-960h chinese-wav2vec2-large
        chinese-wav2vec2-base wavlm-base whisper-base chinese-hubert-base wavlm-large
        whisper-large-v2 chinese-hubert-large""",
        # what that list shows as MacBERT-base is the large one
        """opt-13b albert_chinese_small chinese-xlnet-base llama-13b-hf stable-vicuna-13b
        deberta-chinese-large stablelm-base-alpha-7b-v2 moss-base-7b Llama-2-13b-hf
        chinese-pert-base chinese-electra-180g-base falcon-7b chatglm2-6b chinese-macbert-large
        paraphrase-multilingual-mpnet-base-v2 chinese-lert-base bloom-7b1
        chinese-roberta-wwm-ext-large Baichuan-13B-Base""",
        """msceleb imagenet emonet videomae-base videomae-large senet50face resnet50face
        dinov2-large eva02_base_patch14_224 clip-vit-base-patch32 manet clip-vit-large-patch14""",
    ),
    "MER2025": (
        """wavlm-base chinese-wav2vec2-large chinese-wav2vec2-base whisper-large-v2
        chinese-hubert-base chinese-hubert-large""",
        """chinese-macbert-base chinese-macbert-large bloom-7b1 chinese-roberta-wwm-ext-large
        chinese-roberta-wwm-ext""",
        "resnet50face dinov2-large senet50face manet clip-vit-base-patch32 clip-vit-large-patch14",
    ),
    "MER2026": (
        """wavlm-base chinese-wav2vec2-base chinese-wav2vec2-large chinese-hubert-large
        chinese-hubert-base""",
        """chinese-roberta-wwm-ext chinese-roberta-wwm-ext-large chinese-macbert-base
        chinese-macbert-large""",
        "videomae-large resnet50face emonet senet50face clip-vit-base-patch32 clip-vit-large-patch14",
    ),
}  # fmt: skip

LISTS: dict[str, dict[str, tuple[str, ...]]] = {
    name: {role: tuple(text.split()) for role, text in zip(ROLES, texts, strict=True)}
    for name, texts in _LISTS.items()
}
"""The lists that MERTools' releases carry (notes on MERTools 7.2)."""

Lists = Mapping[str, Sequence[str]]


def computed(store: Store, dataset: str) -> dict[str, tuple[str, ...]]:
    """Features of a dataset by the best cross-validation metric of the runs in the store that used
    one feature alone. Runs whose labels or classes differ from the newest one's are left out.

    Raises MerstoreError where there is no such run.
    """
    best: dict[str, dict[str, float]] = {role: {} for role in ROLES}
    task = None
    for path in reversed(results.runs(store, dataset)):
        run = results.read(store, path)
        names = set(run.about["features"])
        same = (run.about["labels"], run.about["classes"], run.about["metric"])
        if len(names) != 1 or (task is not None and same != task):
            continue
        task = same
        base = names.pop()[:-4]
        role = _role(base)
        known = best[role].get(base, float("-inf"))
        best[role][base] = max(known, run.best.cv["metric"])
    if task is None:
        raise MerstoreError(
            f"{store.path} has no results of {dataset} with one feature alone: train some, or name "
            f"a built-in list ({', '.join(LISTS)})"
        )
    return {
        role: tuple(sorted(found, key=lambda base: found[base])) for role, found in best.items()
    }


def _role(base: str) -> str:
    modality = MERTOOLS_BASES.get(base, ("face", "-"))[0]
    return modality if modality in ROLES else "image"


def top(ranks: Lists, count: int, modality: str) -> list[str]:
    """The bases of the `count` best of each of the three lists that a modality joins."""
    if modality not in MODALITIES:
        raise InvalidKey(f"fusion_modality is one of {', '.join(MODALITIES)}, not {modality!r}")
    lacking = [role for role in MODALITIES[modality] if not 1 <= count <= len(ranks[role])]
    if lacking:
        raise MerstoreError(
            f"fusion_topn {count}: the lists have "
            f"{', '.join(f'{len(ranks[role])} of {role}' for role in dict.fromkeys(lacking))}"
        )
    return [base for role in MODALITIES[modality] for base in ranks[role][-count:]]


def folders(store: Store, dataset: str, bases: Sequence[str]) -> list[str]:
    """The views of features by their bases, level UTT, spelled with ``-`` or ``_``.

    Raises UnknownView that names all which the store lacks.
    """
    found, lacking = [], []
    for base in bases:
        for separator in "-_":
            try:
                found.append(store.resolve(f"{base}{separator}UTT", dataset))
                break
            except UnknownView:
                continue
        else:
            lacking.append(base)
    if lacking:
        raise UnknownView(
            f"{store.path} lacks {len(dict.fromkeys(lacking))} features of {dataset}, as -UTT and as "
            f"_UTT: {', '.join(dict.fromkeys(lacking))}. Import them, or take a smaller fusion_topn"
        )
    return found
