"""AffectGPT over the demo's clips: the three templates side by side, and what each of them computes.

Everything is made here, and the models have random weights: their answers mean nothing. But where
two templates have the same features, they have to give the same answers, and that is looked at.
"""

import csv
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

import merstore
from merstore.cli import console
from merstore.cli.main import run
from merstore.demo.clips import NO_VIDEO, TRUNCATED, make_clips
from merstore.errors import MerstoreError
from merstore.extract.rules import named
from merstore.interop.affectgpt_config import MODES
from merstore.store.store import Store

if TYPE_CHECKING:
    from merstore.run.inference import Progress, Report
    from merstore.run.tasks import Task

DATASET = "demo"
TEMPLATES = ("full", "realtime", "hybrid")
WITHOUT_FRAMES, WITH_FRAMES = "multiface_audio_face_text", "multiface_audio_face_frame_text"
QUESTIONS = (WITHOUT_FRAMES, WITH_FRAMES)
FACE = 112  # pixels, the side of OpenFace's aligned pictures
TOKENS = 12  # of an answer: random weights do not know where to end
BATCH = 8
WIDTH = 24  # characters that are shown of an answer

_SAID = (
    "I told you, I do not want to go there again.",
    "Oh.",
    "That is the best news that I have had for a long, long while!",
    "",
    "Why would anybody do such a thing?",
    "你好",
)


class World:
    """Where everything lies: below `root`, clips in ``media``, OpenFace tracks in ``faces``, what
    MER-Factory writes in ``analyses``.
    """

    def __init__(self, root: Path) -> None:
        made = root / "affectgpt"
        self.root = root
        self.media = root / "clips"
        self.faces = made / "faces"
        self.analyses = made / "mer-factory" / DATASET
        self.texts = made / "subtitles.csv"
        self.models = made / "models"
        self.encoders = self.models / "encoders"
        self.llm = self.models / "llm"
        self.checkpoint = self.models / "checkpoint_000001_loss_9.999.pth"
        self.store = root / "affectgpt.mer"


@dataclass
class Asked:
    """A mode's answers by template and sample, and the reports of its runs."""

    mode: str
    answers: dict[str, dict[str, str]] = field(default_factory=dict)
    reports: dict[str, "Report"] = field(default_factory=dict)


@click.command()
def demo() -> None:
    """AffectGPT by the templates full, realtime and hybrid, with tiny models and clips made here."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here needs the network, so nothing may try it
    started = time.perf_counter()
    world = World(Path("demo"))
    make_clips(world.media)
    show(world)
    click.echo(f"\n{console.duration(time.perf_counter() - started)} in all")
    _to_play_with(world)


def show(world: World) -> None:
    """All of the demo, of the clips that are there; what else it needs is made where it is not."""
    click.secho("merstore demo: AffectGPT, its three templates side by side", bold=True)
    click.echo(f"what it makes lies in {world.root.resolve()}\n")
    click.secho(
        "The models have RANDOM weights: nobody trained them, and their answers mean nothing.\n"
        "What is shown is where features come from, and that the same ones give the same answers.\n",
        fg="yellow",
    )
    _make(world)
    with merstore.open(world.store, "a") as store:
        task = _task(world, store)
        _prewarm(world, store, task)
        asked = [_ask(world, store, task, mode) for mode in QUESTIONS]
        _costs(asked)
        for each in asked:
            _side_by_side(world, store, each)
        _again(world, store, task)


# ---- what there is to ask about ------------------------------------------------------------------


def _make(world: World) -> None:
    """Makes all that is not there yet."""

    clips = sorted(world.media.iterdir())
    good = [clip for clip in clips if clip.name not in (TRUNCATED, NO_VIDEO)]
    told = f"{len(clips)} short ones, made here; broken on purpose: {TRUNCATED}, {NO_VIDEO}"
    _step("clips", told)
    _once(world.faces, lambda folder: _make_faces(folder, good))
    _step("faces", f"{len(good)} made-up tracks: the middle of each frame, as if it were a face")
    _once(world.analyses, lambda folder: _make_analyses(folder, good[:-1], world.faces))
    _step("peaks", f"{len(good) - 1} made-up analyses as by MER-Factory; one clip is left without")
    _once(world.texts, lambda path: _make_subtitles(path, clips))
    _once(world.models, lambda folder: _make_models(world, folder))
    size = sum(path.stat().st_size for path in world.models.rglob("*") if path.is_file())
    _step("models", f"CLIP, HuBERT, Qwen2 and a checkpoint, RANDOM weights, {console.size(size)}")


def _make_models(world: World, folder: Path) -> None:
    from merstore.demo.models import make_checkpoint, make_encoders, make_llm

    make_encoders(folder / world.encoders.name)
    llm = make_llm(folder / world.llm.name)
    make_checkpoint(folder / world.checkpoint.name, llm, mode=WITHOUT_FRAMES)


def _make_faces(folder: Path, clips: Sequence[Path]) -> None:
    """Tracks in OpenFace's layout: uint8 [frames, 112, 112, 3], BGR."""
    from merstore.extract.faces import resize_bilinear
    from merstore.extract.video import read_frames

    folder.mkdir(parents=True)
    for clip in clips:
        pixels = read_frames(clip, range, None).pixels
        height, width = pixels.shape[1:3]
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        middle = pixels[:, top : top + side, left : left + side]
        np.save(folder / f"{clip.stem}.npy", resize_bilinear(middle, (FACE, FACE))[..., ::-1])


def _make_analyses(folder: Path, clips: Sequence[Path], faces: Path) -> None:
    """What AffectGPT's fork of MER-Factory says of the frame of strongest expression."""
    for number, clip in enumerate(clips):
        frames = len(np.load(faces / f"{clip.stem}.npy", mmap_mode="r"))
        peak = frames // 3
        told = {
            "peak_index": peak,
            "frames_before_peak": peak,
            "frames_after_peak": frames - 1 - peak,
        }
        info = {"total_frames": frames, "peak_frames": [] if number % 4 == 3 else [told]}
        path = folder / clip.stem / f"{clip.stem}_au_analysis.json"
        path.parent.mkdir(parents=True)
        document = {"source_path": str(clip), "au_info": info}
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _make_subtitles(path: Path, clips: Sequence[Path]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [(clip.stem, _SAID[number % len(_SAID)]) for number, clip in enumerate(clips)]
        csv.writer(file).writerows([("name", "english"), *rows])


def _once(path: Path, make: Callable[[Path], None]) -> None:
    """Makes beside and renames, so that an interrupted run leaves nothing half made behind."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f"{path.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    make(half)
    half.rename(path)


# ---- asking --------------------------------------------------------------------------------------


def _task(world: World, store: Store) -> "Task":
    from merstore.run.tasks import task_of

    return task_of(
        store,
        DATASET,
        media=world.media,
        faces=world.faces,
        mer_factory=world.analyses,
        texts=str(world.texts),
    )


def _prewarm(world: World, store: Store, task: "Task") -> None:
    """What somebody has computed before: of most samples what `full` reads, and the frames around
    the peak, which `hybrid` reads, of all.
    """
    from merstore.fill import Filler, declare
    from merstore.run.inference import read_template

    assert task.materials is not None
    most = [name for number, name in enumerate(task.names) if number % 3 != 1]
    full, hybrid = read_template("full"), read_template("hybrid")
    before = [(wanted.view, most, full.profile) for wanted in full.features.values()]
    before.append((hybrid.features["frame"].view, list(task.names), hybrid.profile))
    recipes = _recipes(world)
    computed = 0
    for view, names, profile in before:
        recipe = recipes(view, profile)
        filler = Filler(task.materials, recipe, jobs=0)
        computed += filler.fill(declare(store, DATASET, recipe), names).computed
    told = f"{len(most)} of {len(task.names)} samples for full, all their peaks for hybrid"
    _step("prewarm", f"{told}: {computed} features computed in this run")


def _recipes(world: World) -> Callable[[str, str], Any]:
    from merstore.run.inference.sources import recipes_of

    return recipes_of(world.encoders)


def _ask(world: World, store: Store, task: "Task", mode: str) -> Asked:
    """One question by each template."""
    from merstore.models.affectgpt import Settings
    from merstore.run import answers
    from merstore.run.inference import Runner, read_template

    asked = Asked(mode)
    for name in TEMPLATES:
        with console.progress(name, "samples") as bar:

            def tell(told: "Progress", bar: console.Progress = bar) -> None:
                bar(told.done, told.total)

            runner = Runner(
                store,
                [world.checkpoint],
                world.llm,
                read_template(name),
                mode=mode,
                recipes=_recipes(world),
                settings=Settings(max_new_tokens=TOKENS),
                batch=BATCH,
                device="cpu",
                jobs=0,
                tell=tell,
            )
            (report,) = runner.run([task])
        asked.reports[name] = report
        found = answers.read(store[report.view])
        asked.answers[name] = {sample: answer.text for sample, answer in found.items()}
    return asked


# ---- telling -------------------------------------------------------------------------------------


def _costs(asked: Sequence[Asked]) -> None:
    """What each run had to do."""
    from merstore.run.inference import read_template

    rows = []
    for each in asked:
        for name, report in each.reports.items():
            features = read_template(name).features
            computed = sum(report.computed.values())
            numbers = {
                "there": report.present,
                "answered": report.answered,
                "failed": report.known_failures + report.failures,
                "read": sum(report.fetched.values()) - computed,
                "computed": computed,
                "kept": sum(n for m, n in report.computed.items() if features[m].source == "store"),
            }
            rows.append([each.mode, name, *map(str, numbers.values()), f"{report.seconds:.1f}"])
    click.echo()
    click.secho("what each run did: answers, and features", bold=True)
    console.table(["mode", "template", *numbers, "seconds"], rows, " ".join([*numbers, "seconds"]))
    click.echo(
        "there: answers of an earlier run. read: features from the store. kept: in the store, of those\n"
        "computed. full reads all it can and keeps the rest; realtime computes all; hybrid reads the\n"
        "frames around the emotion's peak, and computes faces and sound."
    )


def _side_by_side(world: World, store: Store, asked: Asked) -> None:
    """Some answers of each template, and whether the same features gave the same."""
    click.echo()
    click.secho(f"answers in mode {asked.mode}", bold=True)
    alike = {name: _alike(store, asked, name) for name in TEMPLATES[1:]}
    framed = "frame" in MODES[asked.mode]
    rows = []
    for sample in _chosen(asked, alike["hybrid"]):
        texts = [asked.answers[name].get(sample) for name in TEMPLATES]
        row = [sample, *map(_short, texts)]
        if framed and None in texts:
            row += ["-", "-"]
        elif framed:
            row.append("same" if sample in alike["hybrid"] else "other")
            row.append("same" if len(set(texts)) == 1 else "other")
        rows.append(row)
    console.table(["sample", *TEMPLATES, *["frames", "answer"][: 2 * framed]], rows)
    for name, same in alike.items():
        _compare(asked, name, same)
    if asked.reports["hybrid"].view == asked.reports["realtime"].view:
        click.echo("hybrid and realtime: without frames they ask the same, so it was answered once")
    if framed:
        _why(world, asked, alike["hybrid"])
    failed: dict[tuple[str, str], list[str]] = {}
    for name, report in asked.reports.items():
        for failure in store[report.view].failures():
            failed.setdefault((failure.name, failure.kind), []).append(name)
    for (sample, kind), names in sorted(failed.items()):
        click.echo(f"no answer about {sample}: {kind} ({', '.join(names)})")


def _chosen(asked: Asked, alike: set[str]) -> list[str]:
    """A few samples of each sort: whatever comes first, with other answers of hybrid, with the same
    features, and the last.
    """
    full, hybrid = asked.answers["full"], asked.answers["hybrid"]
    samples = sorted(full)
    other = [each for each in samples if each in hybrid and hybrid[each] != full[each]]
    return sorted({*samples[:4], *other[:3], *sorted(alike)[:2], *samples[-1:]})


def _alike(store: Store, asked: Asked, name: str) -> set[str]:
    """The samples of which `full` and another template have the same features: computed by the same
    spec, or else bit for bit.
    """
    one, other = (store[asked.reports[each].view].spec["features"] for each in ("full", name))
    samples = asked.answers["full"].keys() & asked.answers[name].keys()
    for modality in one:
        if one[modality]["fingerprint"] != other[modality]["fingerprint"]:
            mine, theirs = (store[f"{DATASET}/{each[modality]['view']}"] for each in (one, other))
            samples = {each for each in samples if np.array_equal(mine[each], theirs[each])}
    return samples


def _compare(asked: Asked, name: str, alike: set[str]) -> None:
    """Raises MerstoreError where the same features gave different answers."""
    full, other = asked.answers["full"], asked.answers[name]
    if wrong := sorted(sample for sample in alike if full[sample] != other[sample]):
        raise MerstoreError(
            f"full and {name} have the same features of {', '.join(wrong)} and answer differently: "
            "please tell merstore's authors"
        )
    told = f"full and {name}: the same features of {len(alike)} samples, and the same answers"
    if rest := (full.keys() & other.keys()) - alike:
        differ = sum(full[sample] != other[sample] for sample in rest)
        told += f"; other frames of {len(rest)}, where {differ} answers differ"
    click.echo(told)


def _why(world: World, asked: Asked, alike: set[str]) -> None:
    """Which frames the two rules choose, of a sample where they differ and of one where not."""
    from merstore.extract.mer_factory import MerFactory

    analyses = MerFactory(world.analyses)
    answered = asked.answers["hybrid"].keys() & asked.answers["full"].keys()
    for told, samples in (("other", answered - alike), ("same", answered & alike)):
        if samples:
            sample = min(samples)
            info = analyses.read(sample).au_info()
            even, peak = (
                " ".join(map(str, named(rule).choose(info["total_frames"], sample, info)))
                for rule in ("uniform_8frms", "emotion_peak_8frms")
            )
            face = "peak" if info["peak_frames"] else "no peak"
            click.echo(f"  {told} frames, {sample} ({face}): full {even}, hybrid {peak}")


def _short(answer: str | None) -> str:
    if answer is None:
        return "(none)"
    text = "".join(each if each.isprintable() and each != "\ufffd" else "·" for each in answer)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _again(world: World, store: Store, task: "Task") -> None:
    asked = [_ask(world, store, task, mode) for mode in QUESTIONS]
    reports = [report for each in asked for report in each.reports.values()]
    computed = sum(sum(report.computed.values()) for report in reports)
    answered = sum(report.answered for report in reports)
    click.echo()
    click.secho("all of it once more", bold=True)
    click.echo(
        f"{len(reports)} runs: {computed} features computed, {answered} answers given; "
        f"{sum(report.present for report in reports)} answers were there"
    )


def _to_play_with(world: World) -> None:
    command = os.path.relpath(Path(sys.executable).with_name("merstore"))
    clip = world.media / "sample_00000000.mp4"
    click.echo()
    click.secho("to play with", bold=True)
    click.echo(f"  {command} ls {world.store}")
    click.echo(f"  {command} report store {world.store} --out {world.root / 'affectgpt.html'}")
    click.echo(
        f"  {command} infer --video {clip} --faces {world.faces / clip.stem}.npy --subtitle Hello. "
        f"--model {world.checkpoint} --llm {world.llm} --models {world.encoders} "
        f"--max-new-tokens {TOKENS}"
    )


def _step(name: str, told: str) -> None:
    click.echo(f"{name:<9} {told}")


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], demo, "make demo-affectgpt"))
