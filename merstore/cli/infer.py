"""`merstore infer`: answers of AffectGPT about whole datasets, or one clip."""

import contextlib
import dataclasses
import itertools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merstore.cli import console
from merstore.cli.again import again
from merstore.cli.answered import SHOWN, print_answered
from merstore.cli.opening import force_option, retry_option, weights_option
from merstore.errors import MerstoreError
from merstore.fill import devices
from merstore.fill.shards import Shard
from merstore.run.texts import FORMATS

if TYPE_CHECKING:
    from merstore.interop.affectgpt_config import Outcome
    from merstore.models.affectgpt import Settings
    from merstore.run.inference.fork import ForkRun
    from merstore.run.inference.report import Report, Tell
    from merstore.run.inference.runner import Runner
    from merstore.run.inference.templates import Template
    from merstore.run.tasks import Task
    from merstore.store.store import Store

_QUESTIONS = ("ovlabel", "description", "onehot_wo_candidates", "sentiment")

_path = click.Path(path_type=Path)


@click.command("infer", short_help="answer questions about datasets with AffectGPT")
@click.option(
    "--model",
    "--ckpt",
    "models_",
    metavar="CHECKPOINT",
    multiple=True,
    help="A checkpoint, several with commas between that go over each other, a folder of them, of "
    "which the last one is taken, or a configuration, which chooses. May be repeated: nothing is "
    "encoded twice.",
)
@click.option("--llm", help="The language model's folder or hub id.")
@click.option("--store", type=_path, help="Features, and the answers.")
@click.option(
    "--dataset",
    metavar="NAMES",
    help="Datasets, with commas between, or merunibench (inferenceData): its nine test sets.",
)
@click.option("--template", help="hybrid, realtime, full, or a YAML file  [default: full].")
@click.option(
    "--mode",
    "--outside_face_or_frame",
    help="Which modalities, and the prompt  [default: --template's, else the checkpoint's].",
)
@click.option(
    "--question",
    "--outside_user_message",
    help=f"A question, or one of {', '.join(_QUESTIONS)}; or onehot_w_candidates, valence: with the "
    "classes, or the span, of a dataset's labels  [default: ovlabel].",
)
@click.option(
    "--feature",
    "views",
    metavar="MODALITY=VIEW",
    multiple=True,
    callback=console.named,
    help="Another view than the template's, such as frame=frame@CLIP_VIT_LARGE/uniform_16frms.",
)
@click.option(
    "--backend",
    type=click.Choice(("transformers", "vllm")),
    default="transformers",
    show_default=True,
    help="What generates; vllm is an extra.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Samples that are answered at once  [default: 16; vllm: 256].",
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=1200, show_default=True)
@click.option("--max-length", type=click.IntRange(min=2), default=2000, show_default=True)
@click.option("--sample", is_flag=True, help="Draw answers instead of taking the likeliest words.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of drawn answers.")
@click.option("--temperature", type=float, default=1.0, show_default=True)
@click.option("--top-p", type=float, default=0.9, show_default=True)
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda:1, cuda:0,cuda:1, all."
)
@click.option("--corpora", type=_path, help="A folder with the corpora, to compute from.")
@click.option("--media", type=_path, help="A folder of clips, to compute from.")
@click.option("--faces", type=_path, help="With --media: OpenFace tracks. With --video: its track.")
@click.option(
    "--sounds",
    "--audio_path",
    type=_path,
    help="With --media: sound files. With --video: its sound.",
)
@click.option("--texts", metavar="FILE[#COLUMN]", help="Subtitles, a table with a name column.")
@click.option("--mer-factory", type=_path, help="MER-Factory's output.")
@click.option("--nonverbal", type=_path, help="The file of nonverbal clues.")
@click.option("--list", "listed", type=_path, help="Only the samples listed in this file.")
@click.option("--split", help="Of the labels; all: every sample  [default: the test set's].")
@click.option("--models", "encoders", type=_path, help="A folder with a folder for each encoder.")
@weights_option
@click.option("--jobs", type=click.IntRange(min=0), help="Processes that read clips.")
@click.option("--shard", metavar="I/N", help="Every N-th sample, from the I-th on (from 0).")
@retry_option
@click.option(
    "--output", type=_path, help="Write answers below this folder, named as AffectGPT does."
)
@click.option("--format", "formats", type=click.Choice(FORMATS), multiple=True, default=["npz"])
@click.option("--report", "page", type=_path, help="Write a page about the run to this file.")
@click.option(
    "--video", "--video_path", type=_path, help="Answer about this clip, and nothing else."
)
@click.option("--subtitle", default="", help="What is said in it.")
@click.option("--cfg-path", type=_path, help="A configuration of AffectGPT's fork.")
@click.option("--options", multiple=True, metavar="KEY=VALUE", help="Changes to it.")
@click.option("--zeroshot", is_flag=True, help="With --cfg-path: ask the ovlabel question.")
@click.option("--no_reasoning", is_flag=True, help="Accepted; it has no effect in the fork either.")
@click.option("--part", hidden=True)  # of a process that shares the work with others, as i/n
@click.option("--beside", type=_path, hidden=True)  # a folder that these have in common
@click.argument("more", nargs=-1, metavar="")
@force_option
@console.as_json
def infer_(
    store: Path | None,
    dataset: str | None,
    video: Path | None,
    cfg_path: Path | None,
    options: tuple[str, ...],
    more: tuple[str, ...],
    force: bool,
    as_json: bool,
    **asked: Any,
) -> int:
    """Answer a question about every sample of datasets, with features from STORE.

    Every answer is committed to the store as it comes: stopped and started again, it goes on, and
    several may run at once. Features that are missing are computed where --corpora or --media say of
    what, and kept. A sample that cannot be answered about becomes a failure record.

    With --video, one clip's answer is printed and nothing is kept.

    Exits with 1 where samples are left without an answer.
    """
    if more and cfg_path is None:
        raise click.UsageError(f"Got unexpected extra argument ({more[0]})")
    fork = None
    if cfg_path is not None:
        fork = _fork(cfg_path, [*options, *more], dataset, asked)
        if not as_json and asked["part"] is None:
            _print_keys(fork.keys)
    llm: str | None = asked["llm"] or (fork.llm if fork else None)
    if llm is None:
        raise click.UsageError("Missing option '--llm'")
    checkpoints = _checkpoints(asked["models_"], fork)
    template = _template(asked, fork)
    question = fork.question if fork else _question(asked["question"])
    if video is not None:
        if devices.several(asked["device"]):
            raise click.BadParameter("one clip takes one device", param_hint="--device")
        return _ask(video, checkpoints, llm, template, question, asked, as_json)
    if store is None and fork is not None and fork.root is not None:
        store = _stored(fork.root)
    if store is None or dataset is None:
        raise click.UsageError("give --store and --dataset, or --video")
    reports, files = _run(store, dataset, checkpoints, llm, template, question, asked, fork, force)
    if as_json or asked["part"] is not None:
        rows = [vars(each) for each in reports]
        told = {"store": str(store), "answers": rows, "files": list(map(str, files))}
        if fork is not None:
            told["keys"] = [dataclasses.asdict(key) for key in fork.keys]
        console.json_out(told)
    else:
        print_answered(store, reports, files, "features", "nothing to compute it from", _also)
    return 1 if any(each.failed or each.lacking or each.known_failures for each in reports) else 0


def _fork(
    path: Path, options: Sequence[str], dataset: str | None, asked: dict[str, Any]
) -> "ForkRun":
    from merstore.run.inference.fork import read_fork

    return read_fork(
        path,
        [word for option in options for word in option.split()],
        dataset=dataset or "inferenceData",
        models=asked["models_"],
        folder=asked["encoders"],
        zeroshot=asked["zeroshot"],
        message=asked["question"],
        face_or_frame=asked["mode"],
    )


def _stored(root: str) -> Path:
    """The store that preextracted_root is."""
    if not (Path(root) / "data.mdb").is_file():
        raise click.UsageError(
            f"{root} (preextracted_root) is no store: `merstore import features.mer {root}` makes "
            "one of AffectGPT's folders, then --store features.mer"
        )
    return Path(root)


def _checkpoints(given: Sequence[str], fork: "ForkRun | None") -> list[Any]:
    from merstore.run.inference.fork import find_checkpoints

    if fork is not None:
        return list(fork.checkpoints)
    if not given:
        raise click.UsageError("Missing option '--model'")
    return [stack for model in given for stack in find_checkpoints(model)]


def _template(asked: dict[str, Any], fork: "ForkRun | None") -> "Template":
    from merstore.run.inference.templates import read_template

    if fork is not None and asked["template"] is None:
        template = fork.template
    else:
        template = read_template(asked["template"] or "full")
    return template.changed(asked["views"])


def _question(given: str | None) -> str:
    from merstore.run import prompts

    return prompts.question(given) if given in _QUESTIONS else given or ""


def _settings(asked: dict[str, Any]) -> "Settings":
    from merstore.models.affectgpt import Settings

    return Settings(
        max_new_tokens=asked["max_new_tokens"],
        max_length=asked["max_length"],
        sample=asked["sample"],
        temperature=asked["temperature"],
        top_p=asked["top_p"],
    )


def _ask(
    video: Path,
    checkpoints: Sequence[Any],
    llm: str,
    template: "Template",
    question: str,
    asked: dict[str, Any],
    as_json: bool,
) -> int:
    from merstore.run.inference.single import ask
    from merstore.run.tasks import OF_LABELS

    device = only_visible(asked["device"]) if asked["backend"] == "vllm" else asked["device"]
    if question in OF_LABELS:
        raise click.UsageError(f"{question} is asked with what is known of a dataset's labels")
    for checkpoint in checkpoints:
        answer = ask(
            video,
            checkpoint,
            llm,
            subtitle=asked["subtitle"],
            template=template,
            mode=asked["mode"],
            question=question,
            audio=asked["sounds"],
            face=asked["faces"],
            analysis=asked["mer_factory"],
            models=asked["encoders"],
            weights=asked["weights"],
            backend=asked["backend"],
            device=device,
            settings=_settings(asked),
            seed=asked["seed"],
        )
        if as_json:
            console.json_out(dataclasses.asdict(answer))
        else:
            click.echo(answer.text)
    return 0


def _run(
    path: Path,
    dataset: str,
    checkpoints: Sequence[Any],
    llm: str,
    template: "Template",
    question: str,
    asked: dict[str, Any],
    fork: "ForkRun | None",
    force: bool,
) -> tuple[list["Report"], list[Path]]:
    import merstore
    from merstore.run.inference.devices import telling
    from merstore.run.inference.fork import datasets_of
    from merstore.run.inference.runner import stack_of
    from merstore.run.tasks import OF_LABELS, question_of

    # A fork's configuration says the mode itself; else the checkpoint's, unless --mode or --template
    # is given.
    mode = asked["mode"] or (template.mode if fork or asked["template"] else None)
    if path.exists() or not (asked["corpora"] or asked["media"]):  # else it is filled from these
        merstore.open(path, "r").close()  # says what is wrong with the path
    part = asked["part"]
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(merstore.open(path, "a", force=force))
        tasks = [_task(store, key, asked, fork) for key in datasets_of(dataset)]
        if question in OF_LABELS:
            question = question_of(store, datasets_of(dataset), question, asked["corpora"])

        if part is None:
            tell = _shown(opened.enter_context(console.progress("answering", "answers")))
        else:
            tell = telling(asked["beside"])
        try:
            if devices.several(asked["device"]):
                reports = _on(devices.named(asked["device"]), tell)
                store.refresh()
            else:
                asked_of = (checkpoints, llm, template, mode, question)
                reports = _runner(store, *asked_of, asked, tell).run(tasks)
        except KeyboardInterrupt:
            if part is None:
                console.note(
                    "what is answered is in the store; the same command goes on from there"
                )
            raise
        if part is not None:
            return reports, []
        names = {task.dataset: list(task.names) for task in tasks}
        files = _export(store, list(map(stack_of, checkpoints)), reports, names, asked, fork)
        if asked["page"] is not None:
            from merstore.run.inference.page import write_page

            write_page(asked["page"], store, reports, names)
    return reports, files


def _shown(bar: console.Progress) -> "Tell":
    return lambda told: bar(told.done, told.total, f"{told.dataset} {told.checkpoint}")


def _runner(
    store: "Store",
    checkpoints: Sequence[Any],
    llm: str,
    template: "Template",
    mode: str | None,
    question: str,
    asked: dict[str, Any],
    tell: "Tell",
) -> "Runner":
    from merstore.run.inference.runner import Runner
    from merstore.run.inference.sources import recipes_of

    device = asked["device"]
    if asked["backend"] == "vllm":
        device = only_visible(device)
    return Runner(
        store,
        checkpoints,
        llm,
        template,
        mode=mode,
        question=question,
        recipes=recipes_of(asked["encoders"], asked["weights"], device),
        settings=_settings(asked),
        seed=asked["seed"],
        backend=asked["backend"],
        batch=asked["batch_size"],
        device=device,
        retry=asked["retry"],
        jobs=asked["jobs"],
        part=Shard.parse(asked["part"]) if asked["part"] else None,
        scratch=asked["beside"],
        tell=tell,
    )


def _on(named: list[str], tell: "Tell") -> list["Report"]:
    """The same command on several devices at once."""
    from merstore.run.inference.devices import answer_on

    with tempfile.TemporaryDirectory(prefix="merstore-") as folder:

        def command(device: str, number: int) -> list[str]:
            part = f"{number}/{len(named)}"
            return again("--device", device, "--part", part, "--beside", folder)

        return answer_on(named, command, Path(folder), tell)


def only_visible(device: str) -> str:
    """Has this process see one GPU alone, ``cuda:1`` for example, since vLLM takes the first one that
    it sees; the device's name from then on. Nothing may have asked CUDA for anything before.
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number:
        return device
    gpus = devices.visible_gpus()
    if not number.isdecimal() or int(number) >= len(gpus):
        raise MerstoreError(
            f"no device {device}: GPUs that can be seen: {', '.join(gpus) or 'none'}"
        )
    os.environ["CUDA_VISIBLE_DEVICES"] = gpus[int(number)]
    return "cuda"


def _task(store: "Store", key: str, asked: dict[str, Any], fork: "ForkRun | None") -> "Task":
    from merstore.extract.clips import Clips
    from merstore.run.tasks import task_of

    listed = list(Clips.from_list(asked["listed"])) if asked["listed"] else None
    task = task_of(
        store,
        key,
        corpora=asked["corpora"],
        media=asked["media"],
        listed=listed,
        split=asked["split"],
        texts=asked["texts"],
        faces=asked["faces"],
        sounds=asked["sounds"],
        mer_factory=asked["mer_factory"] or (fork.mer_factory if fork else None),
        nonverbal=asked["nonverbal"] or (fork.nonverbal if fork else None),
    )
    if asked["shard"]:
        task = dataclasses.replace(task, names=Shard.parse(asked["shard"]).names(task.names))
    return task


def _export(
    store: "Store",
    stacks: Sequence[tuple[Path, ...]],
    reports: Sequence["Report"],
    names: dict[str, list[str]],
    asked: dict[str, Any],
    fork: "ForkRun | None",
) -> list[Path]:
    from merstore.run import answers

    if asked["output"] is None and fork is None:
        return []
    base = fork.base if fork else "output/results"
    if asked["output"] is not None:
        base = str(asked["output"] / Path(base).name)
    store.refresh()  # to what others have answered meanwhile
    files = []
    for report, stack in zip(reports, itertools.cycle(stacks), strict=False):  # dataset by dataset
        found = answers.read(store[report.view], names[report.dataset])
        texts = {name: answer.text for name, answer in found.items()}
        checkpoint, folder = report.checkpoint, stack[-1].absolute().parent.name
        for kind in asked["formats"]:
            name = answers.file_name(report.dataset, folder, checkpoint, base)
            path = name.with_name(f"{name.name}.{kind}")
            answers.export(path, texts)
            files.append(path)
    return files


def _print_keys(keys: Sequence["Outcome"]) -> None:
    rows = [[key.key, repr(key.value), "used" if key.used else "ignored", key.why] for key in keys]
    console.table(["KEY", "VALUE", "FATE", "WHY"], rows)
    click.echo()


def _also(report: "Report") -> None:
    computed = [f"{count:,} of {name}" for name, count in report.computed.items()]
    if computed:
        click.echo(f"  features computed: {', '.join(computed)}")
    if report.answered:
        click.echo(f"  in batches of {report.batch}")
    console.listing("  cut, too long for the prompt", report.cut, SHOWN)
