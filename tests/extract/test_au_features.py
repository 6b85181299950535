"""Features of facial actions: MER-Factory's descriptions through CLIP's text tower."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from merstore.errors import DecodeError, EncoderError, InvalidKey
from merstore.extract.au_features import AuFeatures, cleaned
from merstore.extract.material import Material
from merstore.extract.reading import Reading, Refusal, read

from . import reference_text
from .text_models import close, make_clip

LONG = "The corners of the mouth are pulled up and the cheeks are raised, as in a broad smile; " * 2


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("au") / "tiny-clip")


def features(folder: Path, profile: str = "affectgpt", **options: Any) -> AuFeatures:
    options = {"device": "cpu", **options}
    return AuFeatures.create("CLIP_VITB32", "8frms", profile=profile, weights=folder, **options)


def prepared(recipe: AuFeatures, path: Path | None) -> list[str]:
    return recipe.prepare(Reading(Material("s", au=path)))


def analysis(path: Path, **document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_rows_are_the_projected_texts_of_plain_numpy(clip: Path) -> None:
    texts = ["Smiles.", "Brow lowered,  eyes\nwide!", "A", LONG]
    (rows,) = features(clip).encode([texts])
    assert rows.dtype == np.float32
    assert rows.shape == (4, 24)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert close(rows, reference_text.clip(clip, texts))


def test_only_the_last_token_decides_where_the_end_is_told_by_the_largest_number(
    tmp_path: Path,
) -> None:
    """The released configs say eos_token_id 2, by which transformers takes the largest token."""
    folder = make_clip(tmp_path / "released", eos_token_id=2)
    (rows,) = features(folder).encode([["Smiles.", LONG]])
    assert close(rows, reference_text.clip(folder, ["Smiles.", LONG]))


def test_what_is_longer_than_the_context_loses_its_end_and_keeps_the_last_token(clip: Path) -> None:
    encoder = features(clip).encoder
    ids = encoder._tokens(LONG)
    start, end = encoder._tokens("")[:2]
    assert (encoder.context, len(ids)) == (77, 77)
    assert (ids[0], ids[-1]) == (start, end)
    assert encoder._tokens("")[2:] == [0] * 75
    assert encoder._tokens(" A  b\n") == encoder._tokens("a B")


def test_descriptions_come_in_the_order_of_their_frames(tmp_path: Path, clip: Path) -> None:
    path = analysis(
        tmp_path / "a.json",
        summary_description={"10": "third", "2": "second", "1": "first"},
        fine_grained_descriptions={"1": "other"},
    )
    assert prepared(features(clip), path) == ["first", "second", "third"]


def test_without_a_summary_affectgpt_encodes_the_conversation_and_clean_its_answer(
    tmp_path: Path, clip: Path
) -> None:
    chat = "system\nYou see.\nuser\nWhat?\nassistant\nShe smiles."
    path = analysis(
        tmp_path / "a.json", summary_description={}, fine_grained_descriptions={"1": chat}
    )
    assert prepared(features(clip), path) == [chat]
    assert prepared(features(clip, "clean"), path) == ["She smiles."]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  Smiles.\n", "Smiles."),
        ("The subject’s brow — “raised”…", 'The subject\'s brow — "raised"…'),
        ("a &amp;amp; b &lt;3 &rsquo;", "a & b <3 '"),
        ("&rsquo;\n<b> &rsquo; &amp;", "'\n<b> ’ &"),
        ("ﬁne ﬂow Ĳ ŉ", "fine flow IJ 'n"),
        ("ＡＵ１２！\u3000ok", "AU12! ok"),
        ("one\r\ntwo\rthree\u2028four", "one\ntwo\nthree\nfour"),
        ("it\x92s\x85 \x1b[31mred\x1b[0m", "it's… red"),
        ("\ufeffa\x00b\x7fc\u206ad", "abcd"),
        ("e\u0301", "é"),
    ],
)
def test_affectgpt_encodes_what_openais_package_makes_of_a_text(
    tmp_path: Path, clip: Path, text: str, clean: str
) -> None:
    assert cleaned(text) == clean
    path = analysis(tmp_path / "a.json", summary_description={"1": text})
    assert prepared(features(clip), path) == [clean]
    assert prepared(features(clip, "clean"), path) == [text.strip()]


def test_what_there_is_no_description_in_is_a_failure_of_its_kind(
    tmp_path: Path, clip: Path
) -> None:
    def kind(path: Path | None) -> str:
        with pytest.raises(DecodeError) as refused:
            prepared(features(clip), path)
        return refused.value.kind

    assert kind(None) == "no_au_info"
    assert kind(tmp_path / "absent.json") == "missing_file"
    assert kind(analysis(tmp_path / "a.json", au_info={"total_frames": 3})) == "no_au_description"
    (tmp_path / "cut.json").write_text('{"summary_description": {"1": "Smi')
    assert kind(tmp_path / "cut.json") == "decode_error"


def test_on_a_cpu_an_entry_is_the_same_to_the_bit_alone_or_among_others(clip: Path) -> None:
    recipe = features(clip)
    units = [["Smiles."], ["Frowns.", "Smiles.", LONG], ["Smiles.", "Smiles."]]
    for unit, rows in zip(units, recipe.encode(units), strict=True):
        assert np.array_equal(rows, recipe.encode([unit])[0])
    assert recipe.encode([]) == []


def test_all_units_go_together_on_a_gpu(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = features(clip)
    units = [["Smiles."], ["Frowns.", LONG], ["A", "b", "c"]]
    alone = recipe.encode(units)
    monkeypatch.setattr(type(recipe.encoder), "on_cpu", False)
    for rows, wanted in zip(recipe.encode(units), alone, strict=True):
        assert np.allclose(rows, wanted, atol=1e-5)


def test_what_makes_the_view(clip: Path) -> None:
    recipe = features(clip)
    assert (recipe.modality, recipe.reads, recipe.dtype) == ("au", "au", "float32")
    assert (recipe.encoder_name, recipe.sampling, recipe.shape) == (
        "CLIP_VITB32",
        "8frms",
        (None, 24),
    )
    assert recipe.size(["a", "b"]) == 2
    assert recipe.request(Reading(Material("s"))) is None
    assert features(clip, half=True).dtype == "float16"
    (half,) = features(clip, half=True).encode([["Smiles."]])
    assert half.dtype == np.float16
    assert np.array_equal(half, recipe.encode([["Smiles."]])[0].astype(np.float16))


def test_a_spec_names_every_choice_and_no_path(clip: Path) -> None:
    spec = features(clip).spec
    assert str(clip) not in json.dumps(spec)
    assert spec["options"] == {
        "text": "as in the file",
        "cleaning": "OpenAI's, but for wrong encodings",
        "normalise": "rows to length 1",
    }
    assert spec["encoder"]["context"] == 77
    assert spec["encoder"]["config"]["hidden_act"] == "quick_gelu"
    specs = [
        features(clip, profile, half=half).spec
        for profile in ("affectgpt", "clean")
        for half in (0, 1)
    ]
    assert len({json.dumps(spec, sort_keys=True) for spec in specs}) == 4


def test_neither_a_recipe_nor_its_spec_loads_a_library(clip: Path) -> None:
    code = (
        "import sys; from merstore.extract.au_features import AuFeatures, cleaned; "
        f"AuFeatures.create('x', '8frms', profile='clean', weights={str(clip)!r}).spec; "
        "print(*{'torch', 'transformers', 'tokenizers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_a_recipe_is_picklable_without_its_model(clip: Path) -> None:
    recipe = features(clip)
    (before,) = recipe.encode([["Smiles."]])
    again = pickle.loads(pickle.dumps(recipe))
    assert again.spec == recipe.spec
    assert np.array_equal(again.encode([["Smiles."]])[0], before)


def test_what_cannot_be_had_is_said(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidKey, match="no sampling 'UTT' of au; there is 8frms"):
        AuFeatures.create("x", "UTT", profile="clean", weights=clip)
    with pytest.raises(EncoderError, match="no profile 'mertools' of facial actions"):
        features(clip, "mertools")
    folder = shutil.copytree(clip, tmp_path / "other")
    (folder / "config.json").write_text('{"model_type": "bert", "hidden_size": 8}')
    with pytest.raises(EncoderError, match=r"other is a bert; .* encoded by CLIP"):
        features(folder)


# How many frames each file describes, or how the sample fails.
VARIANTS = {
    "only_fine_grained": 3,
    "truncated": "decode_error",
    "empty_peak_frames": 3,
    "keys_need_int_sort": 3,
    "nested_summary_as_in_guide": "no_au_description",
    "peak_without_neighbour_counts": 3,
    "dense_three_frames": 1,
    "upstream_only_keys": "no_au_description",
    "no_descriptions": "no_au_description",
    "no_au_info": 3,
}


@pytest.mark.shared
def test_every_file_of_mer_factory_gives_rows_or_a_failure(shared: Path, clip: Path) -> None:
    folder = shared / "data" / "mer-factory"
    recipe = features(clip)
    found: dict[str, int | str] = {}
    for path in sorted(folder.rglob("*.json")):
        (result,) = read(Material(path.stem, au=path), [recipe]).results
        if isinstance(result, Refusal):
            found[path.stem] = result.kind
        else:
            (rows,) = recipe.encode([result])
            assert rows.shape == (len(result), 24)
            assert close(rows, reference_text.clip(clip, result)) or not all(
                map(str.isascii, result)
            )
            found[path.stem] = len(result)
    assert {name: found[name] for name in VARIANTS} == VARIANTS
