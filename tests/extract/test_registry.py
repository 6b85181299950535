"""The encoders that are known by name: what is declared of them, and the recipes they lead to."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from merstore.errors import EncoderError, InvalidKey
from merstore.extract.au_features import AuFeatures
from merstore.extract.audio_encoders import WaveEncoder, WhisperEncoder
from merstore.extract.audio_features import AudioFeatures
from merstore.extract.face_features import FaceFeatures
from merstore.extract.frame_features import FrameFeatures
from merstore.extract.registry import PROFILES, SAMPLINGS, VARIANTS, encoders, find, recipe
from merstore.extract.text_features import TextFeatures
from merstore.extract.vision import FAMILIES
from merstore.store import legacy

ALL = encoders()
MERTOOLS_LISTS = {"WHOLE_AUDIO": 20, "WHOLE_TEXT": 58, "WHOLE_IMAGE": 15}
WRITTEN_ONLY = {  # by MERTools' scripts, without standing in its lists
    "mel_spec", "mfcc", "emotion2vec-finetune",
    "dinov2-giant", "sunlicai-videomae-base", "sunlicai-videomae-large",
}  # fmt: skip

TEXT_WIDTHS = {
    256: "chinese-electra-180g-small chinese-lert-small",
    312: "albert_chinese_tiny",
    384: "albert_chinese_small",
    768: """bert-base-chinese chinese-roberta-wwm-ext chinese-electra-180g-base chinese-xlnet-base
        chinese-macbert-base chinese-pert-base chinese-lert-base gpt2-chinese-cluecorpussmall
        taiyi-clip-roberta-chinese simbert-base-chinese paraphrase-multilingual-mpnet-base-v2
        bert-base-cased bert-base-uncased albert-base-v2 roberta-base electra-base-discriminator
        xlnet-base-cased t5-base deberta-base""",
    1024: """chinese-roberta-wwm-ext-large deberta-chinese-large chinese-electra-180g-large
        chinese-macbert-large chinese-pert-large chinese-lert-large bert-large-cased
        bert-large-uncased albert-large-v2 roberta-large electra-large-discriminator
        xlnet-large-cased t5-large deberta-large""",
    1536: "deberta-v2-xlarge deberta-v2-xxlarge",
    3072: "wenzhong2-gpt2-chinese",
    4096: """llama-7b-hf llama-2-7b vicuna-7b-v0 moss-base-7b stablelm-base-alpha-7b-v2 bloom-7b1
        chatglm2-6b Baichuan-7B Baichuan2-7B-Base albert-xxlarge-v2""",
    4544: "falcon-7b",
    5120: """llama-13b-hf Llama-2-13b-hf stable-vicuna-13b chinese-alpaca-2-13b Baichuan-13B-Base
        Baichuan2-13B-Base opt-13b""",
}
OTHER_WIDTHS = {
    120: "mfcc",
    128: "vggish mel_spec",
    256: "emonet",
    512: """whisper-base wav2vec-large-z wav2vec-large-c clip-vit-base-patch32 resnet50face
        senet50face msceleb imagenet CLIP_VITB32""",
    768: """chinese-hubert-base chinese-wav2vec2-base wav2vec2-base-960h wavlm-base
        data2vec-audio-base-960h emotion2vec emotion2vec-finetune clip-vit-large-patch14
        data2vec-vision-base-ft1k videomae-base sunlicai-videomae-base eva02_base_patch14_224
        videomae-base-VoxCeleb2-99 videomae-base-K400-mer2023-299
        CLIP_VIT_LARGE EVA_CLIP_G DATA2VEC_BASE""",
    1024: """chinese-hubert-large chinese-wav2vec2-large wav2vec2-large-960h wavlm-large
        data2vec-audio-large dinov2-large videomae-large sunlicai-videomae-large manet
        DINO2_LARGE HUBERT_LARGE WAVLM_LARGE IMAGEBIND""",
    1152: "SigLIP_SO",
    1280: "whisper-large-v2",
    1408: "EVA_CLIP_G_NO_QFORMER",
    1536: "dinov2-giant",
}

# --- what is declared -----------------------------------------------------------------------------


def test_mertools_lists_are_complete() -> None:
    assert {name: sum(e.origin == name for e in ALL) for name in MERTOOLS_LISTS} == MERTOOLS_LISTS
    written = {e.name for e in ALL if e.origin == "MERTools"} - {"pretrain-*"}
    assert written == WRITTEN_ONLY


def test_mertools_names_and_modalities_are_those_of_the_legacy_folders() -> None:
    ours = {e.name: e.modality for e in ALL if e.origin in (*MERTOOLS_LISTS, "MERTools")}
    assert ours.pop("pretrain-*") == "face"
    assert ours == {name: modality for name, (modality, _) in legacy.MERTOOLS_BASES.items()}


@pytest.mark.parametrize(
    ("names", "modalities"),
    [
        (legacy.AFFECTGPT_VISUAL, ("frame", "face")),
        (legacy.AFFECTGPT_ACOUSTIC, ("audio",)),
        (legacy.AFFECTGPT_AU, ("au",)),
    ],
)
def test_affectgpt_names_and_modalities_are_those_of_the_legacy_folders(
    names: tuple[str, ...], modalities: tuple[str, ...]
) -> None:
    found = [find(name) for name in names]
    assert all(encoder.origin == "AffectGPT" for encoder in found)
    assert {encoder.modalities for encoder in found} == {modalities}


def test_affectgpt_has_no_other_names() -> None:
    names = {*legacy.AFFECTGPT_VISUAL, *legacy.AFFECTGPT_ACOUSTIC, *legacy.AFFECTGPT_AU}
    ours = [e for e in ALL if e.origin == "AffectGPT"]
    assert {n for e in ours for n in (e.name, *e.aliases)} == names


def test_the_variants_are_those_of_the_legacy_folders() -> None:
    ours = {variant: modality for modality, marks in VARIANTS.items() for variant in marks}
    assert ours == legacy.MERTOOLS_VARIANTS


@pytest.mark.parametrize("base", legacy.MERTOOLS_BASES)
def test_every_legacy_folder_leads_to_its_encoder(base: str) -> None:
    modality, separator = legacy.MERTOOLS_BASES[base]
    variants = [f"{separator}{variant}" for variant in VARIANTS.get(modality, ())]
    for spelling in ("", *variants, *(first + second for first in variants for second in variants)):
        for level in ("UTT", "FRA"):
            tail = legacy.view_tail(f"{base}{spelling}{separator}{level}")
            assert find(tail.partition("@")[2].partition("/")[0]).name == base


def test_a_pretrained_legacy_folder_leads_to_what_it_needs() -> None:
    tail = legacy.view_tail("pretrain-mer2023-base")
    encoder = find(tail.partition("@")[2].partition("/")[0])
    assert (encoder.name, encoder.modality) == ("pretrain-mer2023-base", "face")
    assert encoder.needs


@pytest.mark.parametrize(
    ("modality", "widths"), [("text", TEXT_WIDTHS), ("", OTHER_WIDTHS)], ids=["text", "other"]
)
def test_widths_are_the_published_ones(modality: str, widths: dict[int, str]) -> None:
    published = {name: width for width, names in widths.items() for name in names.split()}
    ours = {
        e.name: e.dim
        for e in ALL
        if (e.modality == "text") == bool(modality) and isinstance(e.dim, int)
    }
    assert ours == published


def test_widths_of_opensmile_sets_go_by_the_level() -> None:
    assert {e.name: e.dim for e in ALL if e.family == "opensmile"} == {
        "eGeMAPS": {"FRA": 23, "UTT": 88},
        "IS09": {"FRA": 32, "UTT": 384},
        "IS10": {"FRA": 76, "UTT": 1582},
        "IS13": {"FRA": 130, "UTT": 6373},
    }


def test_an_encoder_without_code_says_what_it_needs() -> None:
    for encoder in ALL:
        if encoder.family is None:
            assert encoder.needs is not None, encoder
        if encoder.needs is not None:
            assert re.fullmatch(
                r"needs .{20,}; merstore takes .*\(merstore import\)", encoder.needs
            )
            assert encoder.missing == encoder.needs


def test_code_without_weights_is_that_of_the_published_differences_only() -> None:
    halves = [e.name for e in ALL if e.family is not None and e.needs is not None]
    assert halves == ["vicuna-7b-v0", "stable-vicuna-13b"]


def test_what_runs_has_its_weights_on_the_hub_or_needs_none() -> None:
    for encoder in ALL:
        if encoder.needs is None and not encoder.handcrafted:
            assert encoder.hub is not None, encoder
            assert re.fullmatch(r"[\w-]+/[\w.-]+", encoder.hub), encoder


def test_every_other_family_is_a_model_of_transformers() -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    exported = set(dir(transformers))  # without importing them all, which takes 10 seconds
    families = {e.family for e in ALL if e.family is not None and not e.handcrafted}
    assert len(families) > 20
    assert {MODEL_MAPPING_NAMES[family] for family in families} <= exported


def test_the_recipes_know_every_family() -> None:
    known = set(FAMILIES) | set(WaveEncoder.families) | set(WhisperEncoder.families)
    assert {
        e.family for e in ALL if e.modality != "text" and e.family and not e.handcrafted
    } <= known


def test_encoders_of_a_modality() -> None:
    names = {modality: {e.name for e in encoders(modality)} for modality in SAMPLINGS}
    assert names["frame"] == names["face"] >= {"manet", "CLIP_VIT_LARGE", "dinov2-large"}
    assert names["audio"] >= {"eGeMAPS", "HUBERT_LARGE"}
    assert names["au"] == {"CLIP_VITB32"}
    assert len(names["text"]) == 58
    assert set().union(*names.values()) == {e.name for e in ALL}
    assert encoders("smell") == []


def test_asking_loads_nothing_heavy() -> None:
    code = (
        "import sys; from merstore.extract.registry import encoders, find; encoders(); "
        "[e.missing for e in encoders()]; find('manet'); print(*sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(out.stdout.split())
    assert not loaded & {"torch", "transformers", "yaml", "opensmile"}


# --- names and their recipes ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("hubert_large", "HUBERT_LARGE"),
        ("chinese-hubert-larg", "chinese-hubert-large"),
        ("CLIP_VIT_LARG", "CLIP_VIT_LARGE"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(InvalidKey, match=rf"no encoder '{name}' is known \(near: {near}"):
        find(name)


@pytest.mark.parametrize(
    "name", ["manet-4", "CLIP_VIT_LARGE-langeng", "chinese-hubert-large-langeng", "zzz", "-4", ""]
)
def test_a_variant_of_another_modality_is_no_name(name: str) -> None:
    with pytest.raises(InvalidKey, match="is known"):
        find(name)


@pytest.mark.parametrize(
    ("tail", "told"),
    [
        ("mer2023/frame@CLIP_VIT_LARGE/uniform_8frms", "without the dataset"),
        ("frame/uniform_8frms", "write modality@encoder/sampling"),
        ("frame@CLIP VIT/uniform_8frms", "write modality@encoder/sampling"),
        ("frame@../uniform_8frms", "write modality@encoder/sampling"),
        ("", "write modality@encoder/sampling"),
        ("smell@CLIP_VIT_LARGE/UTT", "no modality 'smell'; there is frame, face, audio, au, text"),
        ("multi@A+B/complete", "no modality 'multi'"),
        ("audio@CLIP_VIT_LARGE/8clips", "encoder of frame and face, not of audio"),
        ("text@chinese-hubert-large/UTT", "encoder of audio, not of text"),
        (
            "frame@CLIP_VIT_LARGE/8frms",
            r"no sampling '8frms' of frame; there is uniform_{n}frms, h",
        ),
        ("frame@CLIP_VIT_LARGE/uniform_0frms", "no sampling 'uniform_0frms'"),
        ("audio@HUBERT_LARGE/clips", r"there is {n}clips, UTT, FRA"),
        ("text@bert-base-chinese/utt", "there is UTT, FRA"),
        ("au@CLIP_VITB32/UTT", "no sampling 'UTT' of au; there is 8frms"),
        ("frame@CLIP_VIT_LARG/uniform_8frms", "near: CLIP_VIT_LARGE.*: give its weights, a folder"),
    ],
)
def test_a_view_that_nothing_makes_is_refused(tail: str, told: str) -> None:
    with pytest.raises(InvalidKey, match=told):
        recipe(tail)


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(EncoderError, match="no profile 'old'; there is clean, affectgpt, mertools"):
        recipe("frame@CLIP_VIT_LARGE/uniform_8frms", profile="old")


@pytest.mark.parametrize("encoder", [e for e in ALL if e.needs], ids=lambda e: e.name)
def test_an_encoder_that_cannot_run_says_so(encoder: object) -> None:
    name, modality, needs = encoder.name.replace("*", "x"), encoder.modality, encoder.needs  # type: ignore[attr-defined]
    sampling = "uniform_8frms" if modality == "frame" else "UTT"
    with pytest.raises(EncoderError, match=re.escape(f"{name} {needs}")):
        recipe(f"{modality}@{name}/{sampling}")


def test_a_folder_of_models_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="absent: no such folder of models"):
        recipe("frame@CLIP_VIT_LARGE/uniform_8frms", models=tmp_path / "absent")


def test_an_undeclared_encoder_asks_for_its_weights(tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match=f"or put its folder into {re.escape(str(tmp_path))}"):
        recipe("text@my-bert/UTT", models=tmp_path)


# --- recipes and weights --------------------------------------------------------------------------


TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


@pytest.fixture(scope="session")
def hubert_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random HuBERT."""
    from transformers import HubertConfig, HubertModel

    folder = tmp_path_factory.mktemp("hubert")
    conv = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16}
    HubertModel(HubertConfig(**TINY, **conv)).save_pretrained(folder)
    steps = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(steps | {"sampling_rate": 16_000}))
    return folder


@pytest.fixture(scope="session")
def bert_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random BERT."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"今天很高兴"]
    BertModel(BertConfig(**TINY, vocab_size=len(words))).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def clip_with_tokenizer(tmp_path_factory: pytest.TempPathFactory, clip_model: Path) -> Path:
    """The small random CLIP with a vocabulary of two words."""
    folder = tmp_path_factory.mktemp("clip") / "model"
    shutil.copytree(clip_model, folder)
    words = ["a</w>", "b</w>", *(f"<{n}>" for n in range(60))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


@pytest.fixture
def models(
    tmp_path: Path,
    clip_model: Path,
    dinov2_model: Path,
    hubert_model: Path,
    bert_model: Path,
    clip_with_tokenizer: Path,
) -> Path:
    """A folder of models: some by their encoder's name, some by the last part of their hub id."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "CLIP_VIT_LARGE").symlink_to(clip_model)
    (folder / "dinov2-large").symlink_to(dinov2_model)
    (folder / "chinese-hubert-large").symlink_to(hubert_model)
    (folder / "bert-base-chinese").symlink_to(bert_model)
    (folder / "CLIP_VITB32").symlink_to(clip_with_tokenizer)
    (folder / "mine").symlink_to(dinov2_model)
    return folder


@pytest.mark.parametrize(
    ("tail", "profiles", "kind", "family"),
    [
        ("frame@CLIP_VIT_LARGE/uniform_8frms", PROFILES, FrameFeatures, "clip"),
        ("frame@CLIP_VIT_LARGE/headtail_6frms", PROFILES, FrameFeatures, "clip"),
        ("frame@dinov2-large/FRA", PROFILES, FrameFeatures, "dinov2"),
        ("frame@mine/segments_4frms", PROFILES, FrameFeatures, "dinov2"),
        ("face@CLIP_VIT_LARGE/8frms", PROFILES, FaceFeatures, "clip"),
        ("face@dinov2-large/UTT", PROFILES, FaceFeatures, "dinov2"),
        ("face@DINO2_LARGE/8frms", PROFILES, FaceFeatures, "dinov2"),
        ("audio@HUBERT_LARGE/8clips", ["affectgpt"], AudioFeatures, "hubert"),
        ("audio@chinese-hubert-large/UTT", ["mertools", "clean"], AudioFeatures, "hubert"),
        ("audio@chinese-hubert-large-noisesnr5/FRA", ["mertools"], AudioFeatures, "hubert"),
        ("text@bert-base-chinese/UTT", ["mertools", "clean"], TextFeatures, "bert"),
        ("text@bert-base-chinese-4/FRA", ["mertools", "clean"], TextFeatures, "bert"),
        ("au@CLIP_VITB32/8frms", ["affectgpt", "clean"], AuFeatures, "clip"),
        ("au@CLIP_VITB32_512d/8frms", ["affectgpt"], AuFeatures, "clip"),
    ],
)
def test_a_view_leads_to_its_recipe(
    models: Path, tail: str, profiles: Sequence[str], kind: type, family: str
) -> None:
    for profile in profiles:
        made = recipe(tail, profile=profile, models=models, device="cpu")
        assert isinstance(made, kind)
        assert f"{made.modality}@{made.encoder_name}/{made.sampling}" == tail
        assert family in json.dumps(made.spec)
        assert profile in json.dumps(made.spec)


def test_the_encoders_name_goes_before_its_hub_id(models: Path, clip_model: Path) -> None:
    (models / "DINO2_LARGE").symlink_to(clip_model)
    made = recipe("frame@DINO2_LARGE/FRA", models=models)
    assert made.spec["encoder"]["architecture"] == "clip"


def test_weights_that_are_given_go_before_the_folder(models: Path, dinov2_model: Path) -> None:
    tail = "frame@CLIP_VIT_LARGE/uniform_8frms"
    made = recipe(tail, models=models, weights=str(dinov2_model))
    assert made.spec["encoder"]["architecture"] == "dinov2"
    assert made.encoder_name == "CLIP_VIT_LARGE"


def test_an_undeclared_encoder_runs_with_its_weights(dinov2_model: Path) -> None:
    made = recipe("face@my-dino/8frms", weights=dinov2_model)
    assert (made.encoder_name, made.modality) == ("my-dino", "face")


def test_an_encoder_in_need_runs_with_the_weights_that_it_is_given(dinov2_model: Path) -> None:
    assert recipe("face@msceleb/FRA", weights=dinov2_model).encoder_name == "msceleb"


def test_options_reach_the_recipe(models: Path) -> None:
    tail = "face@dinov2-large/8frms"
    made = recipe(tail, models=models, tokens="cls", missing="zeros")
    assert made.spec["encoder"]["tokens"] == "cls"
    assert made.missing == "zeros"  # type: ignore[attr-defined]


def test_nothing_else_given_it_is_the_hub_id(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, dinov2_model: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderError, match="facebook/dinov2-large"):
        recipe("frame@DINO2_LARGE/uniform_8frms", models=tmp_path)

    cached = tmp_path / "models--facebook--dinov2-large"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("f" * 40)
    (cached / "snapshots").mkdir()
    (cached / "snapshots" / ("f" * 40)).symlink_to(dinov2_model)
    made = recipe("frame@DINO2_LARGE/uniform_8frms", models=tmp_path)
    assert made.spec["encoder"]["architecture"] == "dinov2"


def test_a_recipe_is_made_without_the_model_libraries(models: Path) -> None:
    tails = [
        "frame@CLIP_VIT_LARGE/uniform_8frms",
        "face@CLIP_VIT_LARGE/UTT",
        "audio@HUBERT_LARGE/UTT",
        "text@bert-base-chinese/UTT",
        "au@CLIP_VITB32/8frms",
    ]
    code = (
        "import sys; from merstore.extract.registry import recipe; "
        f"[recipe(tail, models={str(models)!r}).spec for tail in {tails}]; print(*sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not set(out.stdout.split()) & {"torch", "transformers"}


# --- encoders of other packages -------------------------------------------------------------------

SOURCE = """
from dataclasses import dataclass

@dataclass
class Recipe:
    encoder_name: str
    sampling: str
    given: dict
    modality: str = "audio"

def create(name, sampling, **given):
    return Recipe(name, sampling, given)

def other(name, sampling, **given):
    return Recipe(name, "FRA", given)

def raising(name, sampling, **given):
    raise OSError("no such\\nweights")

number = 7
"""

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution of one module, with these entry points, on the path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def put(source: str = SOURCE, name: str = "their_sounds", **points: str) -> str:
        (site / f"{name}.py").write_text(source)
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{encoder.replace('__', '-')} = {value}" for encoder, value in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[merstore.encoders]", *lines, ""]))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return put


def test_a_package_brings_an_encoder(install: Install, tmp_path: Path) -> None:
    install(birdsong__large="their_sounds:create")
    listed = {e.name: e for e in encoders()}
    assert listed["birdsong-large"] == find("birdsong-large")
    assert find("birdsong-large").origin == "their_sounds"
    assert "their_sounds" not in sys.modules  # loaded when it is used

    made = recipe("audio@birdsong-large/UTT", profile="mertools", device="cpu", layers=4)
    assert (made.modality, made.encoder_name, made.sampling) == ("audio", "birdsong-large", "UTT")
    assert made.given == {"profile": "mertools", "weights": None, "device": "cpu", "layers": 4}  # type: ignore[attr-defined]
    assert recipe("audio@birdsong-large/songs_3").sampling == "songs_3"  # its samplings are its own

    (tmp_path / "birdsong-large").mkdir()
    made = recipe("audio@birdsong-large/UTT", models=tmp_path)
    assert made.given["weights"] == tmp_path / "birdsong-large"  # type: ignore[attr-defined]
    made = recipe("audio@birdsong-large/UTT", models=tmp_path, weights="them/birdsong")
    assert made.given["weights"] == "them/birdsong"  # type: ignore[attr-defined]


def test_a_name_of_ours_stays_ours(install: Install) -> None:
    install(manet="their_sounds:create", CLIP_VITB32_512d="their_sounds:create")
    assert find("manet").origin == "WHOLE_IMAGE"
    assert [e.name for e in encoders()].count("manet") == 1
    with pytest.raises(EncoderError, match="MA-Net"):
        recipe("face@manet/UTT")


def test_a_package_is_near_too(install: Install) -> None:
    install(birdsong="their_sounds:create")
    with pytest.raises(InvalidKey, match="near: birdsong"):
        find("birdsongs")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("their_sounds:absent", "AttributeError"),
        ("no_such_module:create", "ModuleNotFoundError"),
        ("their_sounds:number", "TypeError: 'int' object is not callable"),
        ("their_sounds:raising", "OSError: no such weights"),
        ("their_sounds:dict", "AttributeError"),
        ("not an object", ""),
    ],
)
def test_a_broken_package_is_named(install: Install, value: str, told: str) -> None:
    install(birdsong=value)
    with pytest.raises(
        EncoderError, match=f"'birdsong' of their_sounds .* cannot be had: .*{told}"
    ):
        recipe("audio@birdsong/UTT")


def test_a_module_that_fails_is_named(install: Install) -> None:
    install(source="1 / 0", birdsong="their_sounds:create")
    assert find("birdsong").name == "birdsong"
    with pytest.raises(EncoderError, match=r"of their_sounds .*ZeroDivisionError"):
        recipe("audio@birdsong/UTT")


@pytest.mark.parametrize(
    ("tail", "gives"),
    [
        ("audio@other/UTT", "gives audio@other/FRA, not audio@other/UTT"),
        ("text@birdsong/UTT", "gives audio@birdsong/UTT, not text@birdsong/UTT"),
    ],
)
def test_a_package_that_makes_another_view_is_refused(
    install: Install, tail: str, gives: str
) -> None:
    install(other="their_sounds:other", birdsong="their_sounds:create")
    with pytest.raises(EncoderError, match=gives):
        recipe(tail)


def test_an_error_of_ours_passes_as_it_is(install: Install) -> None:
    source = """
from merstore.errors import EncoderError
def create(*args, **given): raise EncoderError("birdsong: its weights are torn")
"""
    install(source, birdsong="their_sounds:create")
    with pytest.raises(EncoderError, match=r"^birdsong: its weights are torn$"):
        recipe("audio@birdsong/UTT")


def test_rows_are_picklable() -> None:
    assert [pickle.loads(pickle.dumps(e)) for e in ALL] == ALL
    assert PROFILES == ("clean", "affectgpt", "mertools")
