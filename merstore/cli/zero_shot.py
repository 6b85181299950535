"""`merstore zero-shot`: what models say about clips as they are, without features or training."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merstore.cli import console
from merstore.cli.answered import SHOWN, print_answered
from merstore.cli.opening import force_option, retry_option
from merstore.fill.shards import Shard
from merstore.run.texts import FORMATS

if TYPE_CHECKING:
    from merstore.run.tasks import Task
    from merstore.run.zeroshot.asked import Answerer
    from merstore.run.zeroshot.baselines import Baseline
    from merstore.run.zeroshot.running import Progress, Report
    from merstore.store.store import Store


_path = click.Path(path_type=Path)
_store = click.option("--store", type=_path, required=True, help="Made if it is not there.")


@click.group("zero-shot", short_help="ask video, audio and image models about clips")
def zero_shot_() -> None:
    """Ask models about clips as they are: those that transformers has, those that run by code of
    their own, or take over what they are known to have said.
    """


@zero_shot_.command("list")
@console.as_json
def list_(as_json: bool) -> None:
    """List the baselines: what each sees and hears, and what it runs by."""
    from merstore.run.zeroshot import baselines

    known = [baselines.find(name) for name in baselines.names()]
    if as_json:
        console.json_out([_facts(each) for each in known])
        return
    console.table(
        ["NAME", "FRAMES", "SOUND", "RUNS BY", "WEIGHTS"],
        [
            [
                each.name,
                each.frames or ("the file" if each.needs == "video" else ""),
                _sound(each),
                "transformers" if each.family else "an adapter",
                ", ".join(each.weights),
            ]
            for each in known
        ],
    )


@zero_shot_.command("run", short_help="have a dataset's samples answered")
@click.argument("baseline")
@_store
@click.option("--dataset", metavar="NAMES", required=True, help="Datasets, with commas between.")
@click.option("--weights", help="The model's folder or hub id  [default: the baseline's].")
@click.option("--python", help="Of the environment that --adapter runs in  [default: this one].")
@click.option("--adapter", type=_path, help="A file with load() and answer(): see the page.")
@click.option(
    "--option",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    callback=console.named,
    help="For the adapter, over the baseline's own; VALUE: JSON, or text. May be repeated.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="How long an adapter may take for an answer  [default: 600].",
)
@click.option("--corpora", type=_path, help="A folder with the corpora, whose clips are shown.")
@click.option("--media", type=_path, help="A folder of clips, or a list of them.")
@click.option("--sounds", type=_path, help="With --media: sound files, in place of the clips'.")
@click.option("--texts", metavar="FILE[#COLUMN]", help="Subtitles, a table with a name column.")
@click.option("--list", "listed", type=_path, help="Only the samples listed in this file.")
@click.option("--split", help="Of the labels; all: every sample  [default: the test set's].")
@click.option(
    "--subtitle/--no-subtitle", default=False, help="In the prompt  [default: --no-subtitle]."
)
@click.option("--prompt", metavar="TEXT", help="A question, in place of the baseline's.")
@click.option("--greedy", is_flag=True, help="The likeliest words, whatever the baseline draws by.")
@click.option("--seed", type=int, help="Of drawn answers  [default: the baseline's].")
@click.option("--max-new-tokens", type=click.IntRange(min=1), help="[default: the baseline's]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda:1, ...")
@click.option("--keep-media", is_flag=True, help="Put decoded frames and sound into the store.")
@click.option("--jobs", type=click.IntRange(min=0), help="Processes that read clips.")
@click.option("--shard", metavar="I/N", help="Every N-th sample, from the I-th on (from 0).")
@retry_option
@click.option("--output", type=_path, help="Write answers below this folder.")
@click.option("--format", "formats", type=click.Choice(FORMATS), multiple=True, default=["npz"])
@force_option
@console.as_json
def run_(baseline: str, store: Path, dataset: str, force: bool, as_json: bool, **asked: Any) -> int:
    """Have BASELINE answer about every sample of datasets. BASELINE is one of `merstore zero-shot
    list`, or a model's folder or hub id, which is asked as the first baseline of its family.

    Every answer is committed to the store as it comes: stopped and started again, it goes on, and
    several may run at once. A sample that cannot be answered about becomes a failure record.

    Exits with 1 where samples are left without an answer.
    """
    import merstore
    from merstore.run.inference.fork import datasets_of

    chosen, answerer = _answerer(baseline, asked)
    try:
        with (
            merstore.open(store, "a", force=force) as opened,
            console.progress("answering", "answers") as bar,
        ):
            tasks = [_task(opened, key, asked) for key in datasets_of(dataset)]
            reports = _run(opened, tasks, chosen, answerer, asked, bar)
            files = _export(opened, tasks, reports, chosen, asked)
    finally:
        answerer.close()
    if as_json:
        rows = [vars(each) for each in reports]
        console.json_out({"store": str(store), "answers": rows, "files": list(map(str, files))})
    else:
        print_answered(store, reports, files, "media", "no clips are given")
    return 1 if any(each.failed or each.lacking or each.known_failures for each in reports) else 0


@zero_shot_.command("import", short_help="take over answers that were released")
@click.argument("baseline")
@click.argument("file", type=_path)
@_store
@click.option("--dataset", required=True)
@force_option
@console.as_json
def import_(
    baseline: str, file: Path, store: Path, dataset: str, force: bool, as_json: bool
) -> None:
    """Make the answers in FILE those of BASELINE about a dataset, as if it had been run here. FILE is
    an npz with name2reason or filenames and fileitems, a csv or jsonl with name and reason, or a
    folder with a NAME.npy each.
    """
    import merstore
    from merstore.run.zeroshot.released import import_released

    with merstore.open(store, "a", force=force) as opened:
        found = import_released(opened, dataset, baseline, file)
    if as_json:
        console.json_out(dataclasses.asdict(found))
        return
    there = found.samples - found.stored
    click.echo(
        f"{found.view}: {found.stored:,} stored" + (f", {there:,} there already" if there else "")
    )
    console.listing("without an answer", found.silent, SHOWN)


def _answerer(given: str, asked: dict[str, Any]) -> "tuple[Baseline, Answerer]":
    """The baseline, and what answers for it."""
    from merstore.errors import InvalidKey
    from merstore.extract.models import ModelFolder
    from merstore.run.zeroshot.baselines import find
    from merstore.run.zeroshot.native import baseline_of, open_native

    weights = asked["weights"]
    try:
        baseline = find(given)
    except InvalidKey:
        if "/" not in given and not Path(given).is_dir():
            raise
        if weights is not None:
            raise click.UsageError(f"{given} is a model already: leave out --weights") from None
        weights, baseline = given, baseline_of(ModelFolder(given))
    if asked["seed"] is None:
        asked["seed"] = baseline.decoding.seed
    if asked["adapter"] is not None:
        return baseline, _foreign(baseline, weights, asked)
    for given, option in (
        ("python", "--python"),
        ("options", "--option"),
        ("seconds", "--seconds"),
    ):
        if asked[given]:
            raise click.UsageError(f"{option} is for an --adapter")
    decoding = baseline.decoding
    if asked["greedy"]:
        decoding = dataclasses.replace(decoding, temperature=0.0, top_p=1.0)
    if asked["max_new_tokens"] is not None:
        decoding = dataclasses.replace(decoding, max_tokens=asked["max_new_tokens"])
    return baseline, open_native(baseline, weights, decoding, device=asked["device"])


def _foreign(baseline: "Baseline", weights: str | None, asked: dict[str, Any]) -> "Answerer":
    import sys

    from merstore.extract.registry import option_value
    from merstore.run.zeroshot.foreign import SECONDS, Foreign

    told: dict[str, Any] = {key: option_value(text) for key, text in asked["options"].items()}
    told |= {"weights": weights} if weights is not None else {}
    if asked["greedy"]:
        told["do_sample"] = False
    if asked["max_new_tokens"] is not None:
        told["max_new_tokens"] = asked["max_new_tokens"]
    if asked["device"] != "auto":
        told["device"] = asked["device"]
    python = asked["python"] or sys.executable
    return Foreign(baseline, asked["adapter"], python, told, seconds=asked["seconds"] or SECONDS)


def _task(store: "Store", key: str, asked: dict[str, Any]) -> "Task":
    from merstore.extract.clips import Clips
    from merstore.run.tasks import task_of

    task = task_of(
        store,
        key,
        corpora=asked["corpora"],
        media=asked["media"],
        listed=list(Clips.from_list(asked["listed"])) if asked["listed"] else None,
        split=asked["split"],
        texts=asked["texts"],
        sounds=asked["sounds"],
    )
    if asked["shard"]:
        task = dataclasses.replace(task, names=Shard.parse(asked["shard"]).names(task.names))
    return task


def _run(
    store: "Store",
    tasks: "Sequence[Task]",
    baseline: "Baseline",
    answerer: "Answerer",
    asked: dict[str, Any],
    bar: console.Progress,
) -> "list[Report]":
    from merstore.run.zeroshot.running import Runner

    def tell(told: "Progress") -> None:
        bar(told.done, told.total, told.dataset)

    runner = Runner(
        store,
        baseline,
        answerer,
        subtitle=asked["subtitle"],
        question=asked["prompt"],
        seed=asked["seed"],
        keep=asked["keep_media"],
        retry=asked["retry"],
        jobs=asked["jobs"],
        tell=tell,
    )
    try:
        return [runner.run(task) for task in tasks]
    except KeyboardInterrupt:
        console.note("what is answered is in the store; the same command goes on from there")
        raise


def _export(
    store: "Store",
    tasks: "Sequence[Task]",
    reports: "Sequence[Report]",
    baseline: "Baseline",
    asked: dict[str, Any],
) -> list[Path]:
    """Files named as the published runners name theirs."""
    from merstore.run import answers

    files: list[Path] = []
    if asked["output"] is None:
        return files
    for task, report in zip(tasks, reports, strict=True):
        found = answers.read(store[report.view], task.names)
        texts = {name: answer.text for name, answer in found.items()}
        folder = report.model if baseline.family else baseline.title
        flag = "subtitle" if asked["subtitle"] else "nosubtitle"
        base = str(asked["output"] / "results")
        stem = answers.file_name(report.dataset, folder, f"results-{flag}", base)
        for kind in asked["formats"]:
            path = stem.with_name(f"{stem.name}.{kind}")
            answers.export(path, texts)
            files.append(path)
    return files


def _sound(baseline: "Baseline") -> str:
    if baseline.sound is None:
        return "the file" if baseline.needs == "audio" else ""
    seconds = f", {baseline.sound.seconds:g} s" if baseline.sound.seconds else ""
    return f"{baseline.sound.rate} Hz{seconds}"


def _facts(baseline: "Baseline") -> dict[str, Any]:
    told = {each.name: getattr(baseline, each.name) for each in dataclasses.fields(baseline)}
    told["options"], told["environment"] = dict(baseline.options), dict(baseline.environment)
    for key in ("sound", "decoding"):
        told[key] = dataclasses.asdict(told[key]) if told[key] is not None else None
    return told
