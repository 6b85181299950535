"""Which corpora are known: the built-in ones and those of the user's own file."""

import sys
from pathlib import Path

import pytest

from merstore.corpora.registry import TABLES, find, tables
from merstore.errors import InvalidKey, MerstoreError
from merstore.store.legacy import AFFECTGPT_DATASETS, dataset_key

from .conftest import MakeTable

OWN = """
mine:
  aliases: [My-Corpus]
  media: {video: {folders: clips, files: "{name}.webm"}}
"""


def test_every_dataset_of_the_legacy_names_has_a_table_under_the_same_key() -> None:
    assert set(AFFECTGPT_DATASETS) <= set(tables())
    for key, spellings in AFFECTGPT_DATASETS.items():
        for spelling in (key, *spellings):
            if not spelling.endswith("-process"):  # a folder's name; some are of several corpora
                assert find(spelling).key == key
    for key, table in tables().items():
        if key in AFFECTGPT_DATASETS:
            assert {dataset_key(alias) for alias in table.aliases} <= {key}


@pytest.mark.parametrize(
    ("key", "samples"),
    [
        ("mer2023", 5030),  # mertools 10.1
        ("meld", 9989 + 1109 + 2610),
        ("cmumosi", 2199),
        ("cmumosei", 22_856),
        ("sims", 2281),
        ("simsv2", 4403),
        ("mer2025", 7369 + 20_000),
        ("mer2025ov", 20_000),
        ("ovmerd", 332),
        ("ovmerdplus", 532),
        ("mercaptionplus", 31_327),
        ("mer2024", None),  # two releases differ
        ("iemocap", None),  # two label files
        ("affwild2", None),
    ],
)
def test_the_published_numbers_of_samples(key: str, samples: int | None) -> None:
    assert find(key).samples == samples


def test_the_test_sets_of_mer_unibench_have_12_799_samples() -> None:
    tested = {
        "mer2023": "test1", "mer2024": "test1", "meld": "test", "iemocap": "session5", "cmumosi": "test",
        "cmumosei": "test", "sims": "test", "simsv2": "test", "ovmerdplus": "test",
    }  # fmt: skip
    sizes = [find(key).labels_of(None).splits[split].sizes[0] for key, split in tested.items()]
    assert sum(sizes) == 12_799


def test_a_file_of_ones_own_adds_corpora(
    declare: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = declare(OWN)
    assert find("my-corpus", path).media["video"].candidates("x") == ["clips/x.webm"]
    with pytest.raises(InvalidKey, match="no corpus 'mine'"):
        find("mine")
    monkeypatch.setenv("MERSTORE_CORPORA", str(path))
    assert find("MINE").origin == str(path)
    assert set(tables()) > {"mine", "mer2023"}


def test_a_file_of_ones_own_takes_the_place_of_a_built_in_corpus(declare: MakeTable) -> None:
    path = declare("mer2023: {aliases: [MER2023], folders: [elsewhere]}")
    assert find("MER2023", path).folders == ("elsewhere",)
    assert find("mer2023").folders == ("mer2023-dataset-process",)


def test_a_name_of_another_corpus_is_refused(declare: MakeTable) -> None:
    with pytest.raises(
        MerstoreError, match=r"own\.yaml: the name 'meld' of mine is also one of meld"
    ):
        tables(declare("mine: {aliases: [meld]}"))


def test_an_unknown_name_has_the_nearest_ones() -> None:
    with pytest.raises(InvalidKey, match=r"no corpus 'IEMOCAP4' is known; near: .*iemocap"):
        find("IEMOCAP4")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "no readable YAML"),
        ("a: {x: 1, x: 2}", "'x' stands here more than once"),
        ("a: {}\na: {}", "'a' stands here more than once"),
        ("- a", "a mapping of corpus keys"),
        ("6: {}", "a mapping of corpus keys"),
        ("", "a mapping of corpus keys"),
        ("a: !!python/object/apply:os.getcwd []", "no readable YAML"),
        ("a: {[x]: 1}", "no readable YAML"),
        ("[" * 5000, "no readable YAML"),
    ],
)
def test_a_file_that_is_no_table_is_refused(declare: MakeTable, text: str, message: str) -> None:
    with pytest.raises(MerstoreError, match=r"own\.yaml: .*" + message):
        tables(declare(text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MerstoreError, match=r"own\.yaml: No such file"):
        tables(tmp_path / "own.yaml")


def test_without_the_yaml_package_the_error_says_what_to_install(
    declare: MakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MerstoreError, match=r"pip install 'merstore\[corpora\]'"):
        tables(declare(OWN))


def test_the_example_of_the_documentation_is_a_table(declare: MakeTable) -> None:
    example = (
        (TABLES / "README.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    )
    table = find("my-corpus-v1", declare(example))
    assert table.samples == 1250
    assert table.labels_of(None).samples == 1200
    assert table.labels["main"].splits["extra"].optional
