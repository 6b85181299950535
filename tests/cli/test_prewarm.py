"""prewarm: from clips to entries and failure records, on real files and a random encoder."""

from pathlib import Path

import pytest

import merstore
from merstore.demo.clips import NO_VIDEO, TRUNCATED, make_clips
from merstore.extract.demo_encoder import make_random_encoder

from .conftest import Merstore

VIEW = "toy/frame@encoder/uniform_8frms"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_encoder(tmp_path_factory.mktemp("model") / "encoder")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three good clips and the two broken ones of the demo."""
    made = make_clips(tmp_path_factory.mktemp("media"))
    for path in made[3:-2]:
        path.unlink()
    return made[0].parent


def test_every_clip_ends_as_an_entry_or_a_failure_record(
    cli: Merstore, clips: Path, encoder: Path, tmp_path: Path
) -> None:
    command = ["prewarm", tmp_path / "s.mer", clips, "--dataset", "toy", "--encoder", encoder]
    first = cli(*command)
    assert first.code == 1, first.err  # two clips failed
    assert "failed    2  (decode_error 1, no_video 1)\n" in first.out
    assert "merstore failures" in first.err
    with merstore.open(tmp_path / "s.mer") as store:
        view = store[VIEW]
        assert [len(view), view.shape] == [3, (8, 64)]
        assert {failure.name: failure.kind for failure in view.failures()} == {
            TRUNCATED.removesuffix(".mp4"): "decode_error",
            NO_VIDEO.removesuffix(".mp4"): "no_video",
        }

    again = cli(*command, "--json")
    assert again.code == 0
    counts = {key: again.json[key] for key in ("samples", "present", "known_failures", "computed")}
    assert counts == {"samples": 5, "present": 3, "known_failures": 2, "computed": 0}

    retried = cli(*command, "--retry-failed", "no_video", "--json")
    assert retried.code == 1
    assert retried.json["failed"] == {"no_video": [NO_VIDEO.removesuffix(".mp4")]}
    (failure,) = cli("failures", tmp_path / "s.mer", "--kind", "no_video", "--json").json
    assert failure["attempts"] == 2


def test_only_the_clips_of_a_list(
    cli: Merstore, clips: Path, encoder: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("sample_00000001\nsample_00000999\n")
    args = ["--dataset", "toy", "--encoder", encoder, "--list", listed, "--json"]
    report = cli("prewarm", tmp_path / "s.mer", clips, *args).json
    assert report["computed"] == 1
    assert report["failed"] == {"missing_file": ["sample_00000999"]}


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--dataset", "no/slash"], "no/slash"),
        (["--dataset", "toy", "--frames", "7"], "frames"),
        (["--dataset", "toy", "--encoder", "no-such-folder/model/x"], "no-such-folder"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    args: list[str], told: str, cli: Merstore, clips: Path, encoder: Path, tmp_path: Path
) -> None:
    result = cli("prewarm", tmp_path / "s.mer", clips, "--encoder", encoder, *args)
    assert result.code in (1, 2)
    assert result.err.splitlines()[-1].startswith("error: ")
    assert told in result.err


def test_no_clips_no_store(cli: Merstore, encoder: Path, tmp_path: Path) -> None:
    args = ["--dataset", "toy", "--encoder", encoder]
    result = cli("prewarm", tmp_path / "s.mer", tmp_path / "nowhere", *args)
    assert result.code == 1
    assert "nowhere" in result.err
    assert not (tmp_path / "s.mer").exists()
