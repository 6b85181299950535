"""`merstore extract-labels`: open-set labels, sentiments and merged clues from what models wrote."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merstore.cli import console

if TYPE_CHECKING:
    from merstore.run.labels import Backend, Extraction

SHOWN = 10
_path = click.Path(path_type=Path)


@click.command("extract-labels", short_help="labels from what models say about clips")
@click.argument("source")
@click.option("--out", type=_path, required=True, help="X-openset.npz, or a .csv or .jsonl.")
@click.option("--store", type=_path, help="Where answers are kept; made if it is not there.")
@click.option(
    "--task",
    type=click.Choice(["openset", "sentiment", "merge"]),
    default="openset",
    show_default=True,
    help="Labels from descriptions; a sentiment from labels; clues and subtitle to a description.",
)
@click.option(
    "--backend",
    type=click.Choice(["rule", "transformers", "openai", "vllm"]),
    default="rule",
    show_default=True,
    help="rule: the wheels' words that stand in the text, no model.",
)
@click.option("--model", help="A model's folder, its hub id, or its name at the endpoint.")
@click.option("--url", help="openai: the endpoint, such as http://127.0.0.1:8000/v1.")
@click.option("--tables", type=_path, help="rule: OV-MER's folder emotion_wheel.")
@click.option("--subtitles", help="merge: a source of subtitles.")
@click.option(
    "--sampling",
    type=click.Choice(["greedy", "published"]),
    default="greedy",
    show_default=True,
    help="published: temperature 0.7, top_p 0.8, repetition penalty 1.05.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of --sampling published.")
@click.option("--device", default="auto", show_default=True, help="transformers: cpu, cuda:1, …")
@click.option("--batch", type=click.IntRange(min=1), help="Texts at a time.")
@click.option("--retry-failed", is_flag=True, help="Ask again what failed before.")
@console.as_json
def extract_labels_(
    source: str,
    out: Path,
    store: Path | None,
    task: str,
    backend: str,
    model: str | None,
    url: str | None,
    tables: Path | None,
    subtitles: str | None,
    sampling: str,
    seed: int,
    device: str,
    batch: int | None,
    retry_failed: bool,
    as_json: bool,
) -> int:
    """Have each text of SOURCE answered, and write the answers to OUT.

    SOURCE is an npz with name2reason or filenames and fileitems, a csv or jsonl with a column
    reason (for sentiment: openset), a folder with a NAME.npy each, or a view of texts in the store.

    Answers of a model are kept in the store as they come: interrupted, the same command goes on; and
    no text is asked about twice under the same model, prompt and settings. What failed is not asked
    again without --retry-failed, and is left out of OUT. The key of an endpoint is that in
    OPENAI_API_KEY.

    Exits with 1 where a text has no answer.
    """
    import merstore
    from merstore.run.labels import extract, files, merge

    _check_options(task, backend, model, url, tables, subtitles, store)
    files.check_output(out)
    if any(_same(out, each) for each in (source, subtitles)):
        raise click.UsageError("--out is what is read: choose another file")
    chosen = _backend(backend, model, url, tables, sampling, seed, device)
    if batch:
        chosen.batch = batch
    started = time.monotonic()
    with ExitStack() as stack:
        opened = stack.enter_context(merstore.open(store, "a")) if store else None
        texts = files.read_source(source, files.COLUMNS[task], opened)
        bar = stack.enter_context(console.progress(task, "texts"))
        if task == "merge":
            assert subtitles is not None
            said = files.read_source(subtitles, files.SUBTITLES, opened)
            found = merge(
                texts.texts, said.texts, chosen, opened, retry_failed=retry_failed, progress=bar
            )
        else:
            found = extract(
                texts.texts, chosen, task, opened, retry_failed=retry_failed, progress=bar
            )
    files.write_answers(out, found.answers, task)
    seconds = time.monotonic() - started
    if as_json:
        console.json_out(_summary(source, out, found, texts.absent, seconds))
    else:
        _print(out, found, texts.absent, seconds)
    return 1 if found.failed or texts.absent else 0


def _check_options(
    task: str,
    backend: str,
    model: str | None,
    url: str | None,
    tables: Path | None,
    subtitles: str | None,
    store: Path | None,
) -> None:
    if backend == "rule" and task == "merge":
        raise click.UsageError(
            "--task merge needs a language model: --backend transformers, vllm or openai"
        )
    needed = {
        "--tables": backend == "rule" and tables is None,
        "--model": backend != "rule" and model is None,
        "--store": backend != "rule" and store is None,  # what a model said is worth keeping
        "--url": backend == "openai" and url is None,
    }
    for option, lacking in needed.items():
        if lacking:
            raise click.UsageError(f"--backend {backend} needs {option}")
    if (task == "merge") != (subtitles is not None):
        raise click.UsageError("--subtitles is for --task merge, which needs it")


def _backend(
    backend: str,
    model: str | None,
    url: str | None,
    tables: Path | None,
    sampling: str,
    seed: int,
    device: str,
) -> "Backend":
    from dataclasses import replace

    from merstore.run import labels

    if backend == "rule":
        from merstore.score.wheels import WheelTables

        assert tables is not None
        return labels.Rule(WheelTables.load(tables))
    decoding = replace(labels.PUBLISHED, seed=seed) if sampling == "published" else labels.GREEDY
    assert model is not None
    if backend == "openai":
        assert url is not None
        return labels.Endpoint(url, model, decoding)
    if backend == "vllm":
        return labels.Vllm(model, decoding)
    return labels.Transformers(model, decoding, device=device)


def _same(out: Path, source: str | None) -> bool:
    return source is not None and out.exists() and Path(source).exists() and out.samefile(source)


def _summary(
    source: str, out: Path, found: "Extraction", absent: list[str], seconds: float
) -> dict[str, Any]:
    return {
        "source": source,
        "out": str(out),
        "task": found.task,
        "answered": len(found.answers),
        "asked": found.asked,
        "empty": found.empty,
        "absent": absent,
        "failed": [{"name": name, **why._asdict()} for name, why in found.failed.items()],
        "cache": found.view,
        "seconds": seconds,
    }


def _print(out: Path, found: "Extraction", absent: list[str], seconds: float) -> None:
    console.listing(
        "no answer, left out",
        [f"{name}: {why.kind} ({why.message})" for name, why in found.failed.items()],
        SHOWN,
    )
    console.listing("without a text in the view, left out", absent, SHOWN)
    what = "without a subtitle" if found.task == "merge" else "empty"
    empty = f", {len(found.empty):,} of them {what}" if found.empty else ""
    click.echo(
        f"{out}: {console.plural(len(found.answers), 'answer')}{empty}; {found.asked:,} asked for, the "
        f"others known, in {console.duration(seconds)}"
    )
