"""The main job, step by step: clips -> prewarm -> a dataset that fills what is missing -> batches."""

import os
import re
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import click

import merstore
from merstore.cli import console
from merstore.cli.main import run
from merstore.demo.clips import NO_VIDEO, TRUNCATED, make_clips
from merstore.demo.rates import Rates, compare
from merstore.store.view import View

WORK = Path("demo")
LOADER_BATCH = 8  # samples; small, so that the lazy fill is seen to come batch by batch


@dataclass
class Tally:
    """How the samples that were asked for came: computed in this run, or served from the store."""

    computed: int = 0
    served: int = 0


@click.command()
@click.option(
    "--media", type=click.Path(path_type=Path), help="A folder or list of your own clips."
)
@click.option("--encoder", help="A vision encoder of your own: its folder, or its hub id.")
@click.option("--store", type=click.Path(path_type=Path), help="Where the store goes.")
def demo(media: Path | None, encoder: str | None, store: Path | None) -> None:
    """From clips to batches, with clips and an encoder made here unless you name yours."""
    if encoder is None or Path(encoder).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here needs the network, so nothing may try it

    # Here, because torch and transformers take seconds to load and `--help` does not need them.
    from merstore.extract.clips import Clips
    from merstore.extract.frame_features import FrameFeatures
    from merstore.extract.vision import VisionEncoder
    from merstore.fill import Filler, declare

    click.secho("merstore demo: from clips to batches", bold=True)
    click.echo(f"what it makes lies in {WORK.resolve()}\n")

    if media is None:
        made = make_clips(WORK / "clips")
        clips = Clips.from_directory(WORK / "clips")
        told = f"{len(made)} short ones, made here; broken on purpose: {TRUNCATED}, {NO_VIDEO}"
    else:
        clips = Clips.from_list(media) if media.is_file() else Clips.from_directory(media)
        told = f"{len(clips):,} in {media}"
    _step("clips", told)

    if encoder is None:
        folder = _random_encoder()
        told = (
            f"{folder}: RANDOM weights, so its features mean nothing; name a real one with ENCODER="
        )
    else:
        folder = Path(encoder)
        told = encoder
    recipe = FrameFeatures(VisionEncoder(encoder or folder))
    _step("encoder", told)

    dataset = _segment(media.stem if media else "demo")
    path = store or WORK / f"{dataset}.mer"
    tally = Tally()
    with merstore.open(path, "a") as opened:
        view = declare(opened, dataset, recipe)
        view.filler = Filler(clips, recipe)
        _step("view", f"{view.path}  ({console.shape(view.shape)} {view.dtype} an entry)")

        offline = [name for number, name in enumerate(clips) if number % 3 != 1]
        _prewarm(view, offline, tally)
        _read("dataset", view, list(clips), tally)
        _read("again", view, list(clips), tally)
        rates = compare(view, WORK / "npy") if len(view) else None
        _end(view, path, tally, rates)


def _random_encoder() -> Path:
    from merstore.extract.demo_encoder import make_random_encoder

    folder = WORK / "random-clip"
    if not folder.exists():
        half = (
            WORK / "random-clip.half"
        )  # renamed when whole: an interrupted run leaves nothing behind
        shutil.rmtree(half, ignore_errors=True)
        make_random_encoder(half).rename(folder)
    return folder


def _prewarm(view: View, names: list[str], tally: Tally) -> None:
    """Most of the clips offline, as `merstore prewarm` does it."""
    from merstore.fill import Failed, Filler, Progress

    assert isinstance(view.filler, Filler)
    with console.progress("prewarming", "clips") as bar:

        def tell(told: Progress | Failed) -> None:
            if isinstance(told, Progress):
                bar(told.done, told.total, f"{told.failed} failed")

        report = view.filler.fill(view, names, tell=tell)
    failed = report.failures
    tally.computed += report.computed
    told = [
        f"{report.computed} computed{console.rate(report.computed, 'clips', report.bytes, report.seconds)}"
    ]
    told += [f"{failed} failed"] if failed else []
    told += [f"{report.present} there already"] if report.present else []
    told += [f"{report.known_failures} failed before"] if report.known_failures else []
    _step("prewarm", f"{len(names):,} of the clips, offline: {', '.join(told)}")


def _read(step: str, view: View, names: list[str], tally: Tally) -> None:
    """All clips through a dataset: what is missing is computed in passing, the rest is served."""
    from merstore.load import FeatureDataset, FeatureLoader

    before, failed_before = len(view), view.record.failures
    started = time.perf_counter()
    there = 0
    dataset = FeatureDataset(view, names, on_miss="fill")
    with console.progress("reading", "clips") as bar:
        for number, batch in enumerate(FeatureLoader(dataset, LOADER_BATCH), 1):
            there += int(batch.mask[view.modality].sum())
            bar(min(number * LOADER_BATCH, len(names)), len(names))
    seconds = time.perf_counter() - started
    computed, failed = len(view) - before, view.record.failures - failed_before
    tally.computed += computed
    tally.served += there - computed
    told = f"{there - computed:,} served from the store, {computed:,} computed in passing"
    told += f", {failed} failed" if failed else ""
    told += f", {len(names) - there} masked" if there < len(names) else ""
    _step(step, f'on_miss="fill": {told}; {console.duration(seconds)}')


def _end(view: View, path: Path, tally: Tally, rates: Rates | None) -> None:
    kinds = Counter(failure.kind for failure in view.failures())
    told = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    click.echo()
    click.secho("result", bold=True)
    facts = {
        "entries": f"{len(view):,}",
        "failures": f"{view.record.failures:,}" + (f"  ({told})" if told else ""),
        "computed": f"{tally.computed:,} in this run",
        "served": f"{tally.served:,} read from the store without computing them",
        "batch rate": "nothing to measure: no clip gave an entry",
        "": None,
        "store": f"{path}  ({console.size(view.store.stats()['file_bytes'])})",
    }
    if rates is not None:
        facts["batch rate"] = (
            f"{console.number(rates.store)} samples/s from the store, {console.number(rates.npy)} from"
            f" .npy files: {console.number(rates.store / rates.npy)} x"
        )
        facts[""] = (
            f"(batches of {rates.batch}, the same ones and bit for bit alike; medians of {rates.rounds} rounds,"
            f" one thread; {console.size(view.record.nbytes)} in all, so this is cache speed: make bench)"
        )
    console.fields(facts)
    command = _command()
    click.echo()
    click.secho("to play with", bold=True)
    click.echo(f"  {command} ls {path}")
    click.echo(f"  {command} info {path} {view.path}")
    click.echo(f"  {command} failures {path}")


def _command() -> str:
    """How the console script is called from here."""
    script = Path(sys.executable).with_name("merstore")
    found = shutil.which("merstore")
    if found and Path(found).resolve() == script.resolve():
        return "merstore"
    return os.path.relpath(script)


def _segment(name: str) -> str:
    """A file's name as a dataset's."""
    return re.sub(r"[^A-Za-z0-9._+-]", "-", name).lstrip("._+-") or "demo"


def _step(name: str, told: str) -> None:
    click.echo(f"{name:<9} {told}")


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], demo, "make demo"))
