"""ls, info, failures: what a store says of itself."""

from pathlib import Path

import merstore

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
    (only,) = cli("failures", filled, "--kind", "no_video", "--json").json
    assert (only["view"], only["name"], only["kind"]) == (FRAMES, "mute", "no_video")
    nothing = cli("failures", filled, "--kind", "no_face")
    assert (nothing.code, nothing.out) == (0, "")
    assert nothing.err == "no failures of kind no_face\n"
