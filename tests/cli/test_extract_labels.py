"""`merstore extract-labels`, by rule and against an endpoint on this machine."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from score_tables import write_tables

import merstore
from merstore.run.labels import Transformers, extract
from merstore.score.files import read_answers

from ..run.labels.server import Reply, Server, says
from ..run.labels.tiny import save_model, save_tokenizer
from .conftest import Merstore

TEXTS = {"a": "She is happy.", "b": "sad, and jealous", "c": "", "d": "She is happy."}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("tables") / "emotion_wheel")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "results-nosubtitle.npz"
    np.savez(path, name2reason=np.array(TEXTS, object))
    return path


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with Server() as running:
        yield running


def test_labels_and_then_sentiments_by_rule(
    cli: Merstore, source: Path, tables: Path, tmp_path: Path
) -> None:
    labels, sentiments = tmp_path / "x-openset.npz", tmp_path / "x-openset-sentiment.npz"
    result = cli("extract-labels", source, "--tables", tables, "--out", labels)
    assert result.code == 0, result.err
    assert read_answers(labels).by_name == {
        "a": "[happy]",
        "b": "[sad, jealous]",
        "c": "[]",
        "d": "[happy]",
    }
    assert "4 answers, 1 of them empty; 2 asked for" in result.out
    result = cli(
        "extract-labels", labels, "--task", "sentiment", "--tables", tables, "--out", sentiments
    )
    assert result.code == 0, result.err
    assert read_answers(sentiments).by_name["b"] == "negative"


def test_with_a_store_nothing_is_asked_twice(
    cli: Merstore, source: Path, tables: Path, tmp_path: Path
) -> None:
    store = tmp_path / "s.mer"
    asked = []
    for name in ("x.npz", "y.csv"):
        line = ["extract-labels", source, "--tables", tables, "--store", store, "--json"]
        found = cli(*line, "--out", tmp_path / name).json
        asked.append(found["asked"])
    assert asked == [2, 0]
    assert (found["answered"], found["empty"], found["failed"]) == (4, ["c"], [])
    assert read_answers(tmp_path / "x.npz").by_name == read_answers(tmp_path / "y.csv").by_name
    with merstore.open(store) as opened:
        assert found["cache"] in opened


def test_an_endpoint_that_fails_leaves_its_text_out_and_exits_with_1(
    cli: Merstore, source: Path, tmp_path: Path, server: Server
) -> None:
    server.always = lambda message: (
        Reply(400, "too long") if "jealous" in message else says("Output: [calm]")
    )
    out = tmp_path / "x.jsonl"
    line = ["extract-labels", source, "--backend", "openai", "--url", server.url, "--model", "m"]
    line += ["--store", tmp_path / "s.mer", "--out", out]
    result = cli(*line)
    assert result.code == 1
    assert "b: refused (400: too long)" in result.out
    assert read_answers(out).by_name == {"a": "[calm]", "c": "[]", "d": "[calm]"}
    server.always = lambda message: says("[jealous]")
    assert cli(*line).code == 1
    assert len(server.requests) == 2
    assert cli(*line, "--retry-failed").code == 0
    assert read_answers(out).by_name["b"] == "[jealous]"


def test_the_published_settings_and_a_seed(
    cli: Merstore, source: Path, tmp_path: Path, server: Server
) -> None:
    line = ["extract-labels", source, "--backend", "openai", "--url", server.url, "--model", "m"]
    line += ["--store", tmp_path / "s.mer", "--out", tmp_path / "x.csv"]
    line += ["--sampling", "published", "--seed", 7]
    assert cli(*line).code == 0
    assert server.requests[0]["temperature"] == 0.7
    with merstore.open(tmp_path / "s.mer") as store:
        (view,) = store.values()
        assert view.spec["decoding"]["seed"] == 7


def test_a_model_on_this_machine(cli: Merstore, source: Path, tmp_path: Path) -> None:
    model = tmp_path / "tiny-qwen2"
    size = save_tokenizer(model)
    save_model(model, size, eos_token_id=list(range(0, size, 5)))  # it soon comes upon an end
    line = ["extract-labels", source, "--backend", "transformers", "--model", model]
    line += ["--device", "cpu", "--store", tmp_path / "s.mer", "--json"]
    first = cli(*line, "--out", tmp_path / "x-openset.npz")
    assert first.code == 0, first.err
    assert first.json["asked"] == 2
    assert first.json["cache"].startswith("texts/openset@tiny-qwen2/")
    expected = extract(TEXTS, Transformers(model, device="cpu")).answers
    assert read_answers(tmp_path / "x-openset.npz").by_name == expected
    assert cli(*line, "--out", tmp_path / "y-openset.npz").json["asked"] == 0


def test_clues_are_merged_with_the_subtitles_of_a_table(
    cli: Merstore, source: Path, tmp_path: Path, server: Server
) -> None:
    server.always = lambda message: says("She laughs, so she is happy.")
    subtitles = tmp_path / "subtitle_chieng.csv"
    subtitles.write_text("name,chinese,english\na,哈,Ha!\nb,,\nc,,\nd,哈,Ha!\n", "utf-8")
    out = tmp_path / "results-nosubtitle-addsub.npz"
    line = ["extract-labels", source, "--task", "merge", "--subtitles", subtitles, "--out", out]
    line += ["--backend", "openai", "--url", server.url, "--model", "m"]
    result = cli(*line, "--store", tmp_path / "s.mer")
    assert result.code == 0, result.err
    assert len(server.requests) == 1
    merged = read_answers(out).by_name
    assert merged["a"] == merged["d"] == "She laughs, so she is happy."
    assert merged["b"] == TEXTS["b"]


def test_samples_without_a_text_in_the_view_are_told(
    cli: Merstore, tables: Path, tmp_path: Path
) -> None:
    with merstore.open(tmp_path / "s.mer", "a") as store:
        view = store.create_view("meld/text/english", dtype="uint8", shape=(None,))
        view["a"] = np.frombuffer(b"so happy", np.uint8)
        view.fail("b", "missing_text", "no row")
    line = ["extract-labels", "meld/text/english", "--store", tmp_path / "s.mer"]
    result = cli(*line, "--tables", tables, "--out", tmp_path / "x.csv")
    assert result.code == 1
    assert "left out (1):\n  b" in result.out
    assert read_answers(tmp_path / "x.csv").by_name == {"a": "[happy]"}


def test_ctrl_c_waits_for_nothing_and_the_same_command_goes_on(
    cli: Merstore, source: Path, tmp_path: Path, server: Server
) -> None:
    line = ["extract-labels", source, "--backend", "openai", "--url", server.url, "--model", "m"]
    line += ["--store", tmp_path / "s.mer", "--out", tmp_path / "x.csv", "--batch", 1]
    reached = threading.Event()

    def hold(message: str) -> Reply:
        reached.set()
        return Reply(hold=True)

    server.replies = [says("[calm]")]
    server.always = hold
    command = [sys.executable, "-m", "merstore.cli", *map(str, line)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert reached.wait(60)
    running.send_signal(signal.SIGINT)
    _, error = running.communicate(timeout=30)  # less than what the endpoint may take
    assert (running.returncode, error) == (130, "interrupted\n")
    assert not (tmp_path / "x.csv").exists()
    server.always = lambda message: says("[sad]")
    assert cli(*line).code == 0
    assert read_answers(tmp_path / "x.csv").by_name == {
        "a": "[calm]",
        "b": "[sad]",
        "c": "[]",
        "d": "[calm]",
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], "needs --tables"),
        (["--backend", "transformers"], "needs --model"),
        (["--backend", "openai", "--model", "m"], "needs --store"),
        (["--backend", "openai", "--model", "m", "--store", "s.mer"], "needs --url"),
        (["--task", "merge"], "needs a language model"),
        (["--subtitles", "x.csv", "--tables", "t"], "--subtitles is for --task merge"),
        (["--backend", "openai", "--model", "m", "--store", "s.mer", "--url", "u", "--task", "merge"], "--subtitles"),
    ],
)  # fmt: skip
def test_an_option_that_lacks_is_named(
    cli: Merstore, source: Path, tmp_path: Path, options: list[str], told: str
) -> None:
    result = cli("extract-labels", source, "--out", tmp_path / "x.csv", *options)
    assert result.code == 2
    assert told in result.err


def test_what_is_read_is_not_written_over(cli: Merstore, source: Path, tables: Path) -> None:
    before = source.read_bytes()
    result = cli("extract-labels", source, "--tables", tables, "--out", source)
    assert result.code == 2
    assert "choose another" in result.err
    assert source.read_bytes() == before


def test_nothing_is_asked_where_the_answers_cannot_be_written(
    cli: Merstore, source: Path, tables: Path, tmp_path: Path
) -> None:
    result = cli("extract-labels", source, "--tables", tables, "--out", tmp_path / "no" / "x.csv")
    assert result.code == 1
    assert "there is no folder" in result.err
    result = cli("extract-labels", tmp_path / "gone.npz", "--tables", tables, "--out", "x.csv")
    assert result.code == 2
    assert "gone.npz: no such file" in result.err
