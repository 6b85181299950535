"""ls, info, failures: what a store says of itself."""

from pathlib import Path

import pytest

import merstore
from merstore.store.quality import pack, quality_view

from .conftest import FRAMES, SOUND, Merstore


def test_ls_shows_each_view_with_what_it_holds(cli: Merstore, filled: Path) -> None:
    result = cli("ls", filled)
    assert result.code == 0
    assert [line.split() for line in result.lines] == [
        ["VIEW", "ENTRIES", "FAILED", "DTYPE", "SHAPE", "SIZE"],
        [SOUND, "3", "0", "float16", "Tx4", "120", "B"],
        [FRAMES, "4", "2", "float32", "8x4", "512", "B"],
    ]


def test_ls_as_json(cli: Merstore, filled: Path) -> None:
    assert cli("ls", filled, "--json").json[1] == {
        "view": FRAMES,
        "entries": 4,
        "failures": 2,
        "dtype": "float32",
        "shape": [8, 4],
        "bytes": 512,
    }


def test_ls_of_an_empty_store_says_so_on_stderr(cli: Merstore, tmp_path: Path) -> None:
    merstore.open(tmp_path / "empty.mer", "a").close()
    result = cli("ls", tmp_path / "empty.mer")
    assert (result.code, result.out) == (0, "")
    assert "no views" in result.err
    assert cli("ls", tmp_path / "empty.mer", "--json").json == []


def test_ls_of_a_view_is_its_samples_one_to_a_line_in_byte_order(
    cli: Merstore, filled: Path
) -> None:
    names = ["-dash", "sample_00000001", "sample_00000002", "中文_样本"]
    assert cli("ls", filled, FRAMES).lines == names
    assert cli("ls", filled, FRAMES, "--json").json == names
    assert cli("ls", filled, FRAMES, "-n", 2).lines == names[:2]
    assert cli("ls", filled, FRAMES, "-n", 0).lines == []


def test_a_view_may_be_named_by_its_legacy_folder(cli: Merstore, filled: Path) -> None:
    for name in ("chinese-hubert-large-FRA", "mer2023/chinese-hubert-large-FRA", SOUND):
        assert cli("ls", filled, name).lines == ["s1", "s5", "s9"]


def test_info_of_a_store(cli: Merstore, filled: Path) -> None:
    facts = cli("info", filled, "--json").json
    assert (facts["views"], facts["entries"], facts["failures"]) == (2, 7, 2)
    assert facts["payload_bytes"] == 120 + 512
    assert facts["file_bytes"] == (filled / "data.mdb").stat().st_size
    assert facts["durability"] == "full"
    told = cli("info", filled).out
    assert facts["uuid"] in told
    assert "failures    2\n" in told


def test_info_of_a_view_has_its_spec_and_failures_by_kind(cli: Merstore, filled: Path) -> None:
    facts = cli("info", filled, FRAMES, "--json").json
    assert facts["spec"] == {"encoder": {"name": "clip", "dim": 4}}
    assert facts["failures"] == {"decode_error": 1, "no_video": 1}
    with merstore.open(filled) as store:
        assert facts["fingerprint"] == store[FRAMES].fingerprint
    told = cli("info", filled, FRAMES).out
    assert 'encoder.name  "clip"' in told
    assert "(decode_error 1, no_video 1)" in told


def test_failures_lists_kind_attempts_and_message_on_one_line_each(
    cli: Merstore, filled: Path
) -> None:
    result = cli("failures", filled, FRAMES)
    assert result.code == 0
    assert [line.split()[:3] for line in result.lines[1:]] == [
        ["broken", "decode_error", "1"],
        ["mute", "no_video", "1"],
    ]
    assert result.lines[1].endswith("the decoder stops after 3 of 9 frames")


def test_failures_of_one_kind_and_of_all_views(cli: Merstore, filled: Path) -> None:
    (only,) = cli("failures", filled, "--kind", "no_video", "--json").json["failures"]
    assert (only["view"], only["name"], only["kind"]) == (FRAMES, "mute", "no_video")
    nothing = cli("failures", filled, "--kind", "no_face")
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.err == "no failures of kind no_face\n"


@pytest.fixture
def odd(filled: Path) -> Path:
    """The same store with records of quality, of two datasets."""
    with merstore.open(filled, "a") as store:
        audio = quality_view(store, "mer2023", "audio")
        audio.update({name: pack(["silent"], {"content": "00"}) for name in ("s5", "s1")})
        video = quality_view(store, "mer2023", "video")
        video.update({name: pack([], {"content": "01"}) for name in ("s5", "s1")})
        quality_view(store, "meld", "audio")["m1"] = pack(["silent", "my_own"], {})
    return filled


def test_failures_counts_the_odd_samples_too(cli: Merstore, odd: Path) -> None:
    lines = cli("failures", odd, FRAMES).lines
    assert [line.split()[0] for line in lines[:3]] == ["SAMPLE", "broken", "mute"]
    assert [line.split()[:3] for line in lines[3:]] == [
        [],
        ["DATASET", "FLAG", "SAMPLES"],
        ["mer2023", "duplicate", "1"],
        ["mer2023", "silent", "2"],
    ]
    assert lines[-1].endswith("the sound is silence throughout")
    assert len(cli("failures", odd).lines) == 9
    assert len(cli("failures", odd, "--kind", "no_video").lines) == 2
    assert cli("failures", odd, "--json").json["quality"] == [
        {"dataset": "meld", "flag": "my_own", "samples": 1},
        {"dataset": "meld", "flag": "silent", "samples": 1},
        {"dataset": "mer2023", "flag": "duplicate", "samples": 1},
        {"dataset": "mer2023", "flag": "silent", "samples": 2},
    ]


def test_failures_lists_the_samples_with_a_flag(cli: Merstore, odd: Path) -> None:
    assert cli("failures", odd, FRAMES, "--flag", "silent").lines == ["s1", "s5"]
    assert cli("failures", odd, FRAMES, "--flag", "duplicate").lines == ["s5"]
    assert [line.split() for line in cli("failures", odd, "--flag", "silent").lines] == [
        ["DATASET", "SAMPLE"],
        ["meld", "m1"],
        ["mer2023", "s1"],
        ["mer2023", "s5"],
    ]
    (record,) = cli("failures", odd, "--flag", "my_own", "--json").json
    assert record == {
        "dataset": "meld",
        "name": "m1",
        "quality": {"audio": {"flags": ["my_own", "silent"], "facts": {}}},
    }
    nothing = cli("failures", odd, FRAMES, "--flag", "no_face")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no samples with flag no_face\n")


def test_failures_by_a_flag_that_cannot_be(cli: Merstore, filled: Path, odd: Path) -> None:
    unknown = cli("failures", odd, FRAMES, "--flag", "silnt")
    assert (unknown.code, unknown.out) == (1, "")
    assert "no flag 'silnt'; there is absurd_duration" in unknown.err
    assert cli("failures", odd, "--flag", "silent", "--kind", "no_face").code == 2


def test_failures_by_flag_where_nothing_was_recorded(cli: Merstore, filled: Path) -> None:
    for view in ([], [FRAMES]):
        result = cli("failures", filled, *view, "--flag", "silent")
        assert (result.code, result.out) == (2, "")
        assert "no records of quality" in result.err
