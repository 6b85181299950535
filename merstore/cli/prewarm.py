"""`merstore prewarm`: computes views for a whole dataset before they are needed."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from merstore.cli import console
from merstore.cli.again import again
from merstore.cli.opening import force_option, retry_option, store_argument, weights_option
from merstore.extract.registry import PROFILES, recipe_written
from merstore.fill import devices
from merstore.fill import log as logs
from merstore.fill.engine import Failed, FillReport, Progress
from merstore.fill.filler import READ_SECONDS
from merstore.fill.plan import Plan, make_plan
from merstore.fill.prewarm import prewarm
from merstore.fill.shards import Shard
from merstore.store import legacy

if TYPE_CHECKING:
    from merstore.corpora import Corpus
    from merstore.extract.material import Material
    from merstore.extract.recipes import Recipe
    from merstore.store.store import Store

_SHOWN = 10  # failed samples of a kind

_folder = click.Path(path_type=Path)


@click.command("prewarm", short_help="compute the features of a whole dataset")
@store_argument
@click.argument("media", type=_folder)
@click.option("--dataset", required=True, help="What the clips are of, such as mer2023.")
@click.option(
    "--view",
    "views",
    metavar="VIEW[?OPTION=VALUE&...]",
    multiple=True,
    required=True,
    help="modality@encoder/sampling, such as frame@CLIP_VIT_LARGE/uniform_8frms, or a legacy folder "
    "name. May be repeated: each clip is read once for all. Options are those of the recipe, and "
    "profile and weights.",
)
@click.option("--profile", type=click.Choice(PROFILES), default="clean", show_default=True)
@click.option("--models", type=_folder, help="A folder with a folder for each encoder.")
@weights_option
@click.option(
    "--corpus", is_flag=True, help="MEDIA is the root of the corpus that --dataset names."
)
@click.option("--split", "splits", multiple=True, help="Only this split of the corpus.")
@click.option("--list", "listed", type=_folder, help="Only the samples listed in this file.")
@click.option("--sounds", type=_folder, help="Sound files; without, the clips' own sound.")
@click.option("--faces", type=_folder, help="OpenFace tracks: NAME.npy or NAME/NAME.npy.")
@click.option("--texts", metavar="FILE[#COLUMN]", help="Transcripts, a table with a name column.")
@click.option("--mer-factory", type=_folder, help="MER-Factory's output.")
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda:1, cuda:0,cuda:1, all."
)
@retry_option
@click.option(
    "--jobs",
    type=click.IntRange(min=0),
    help="Reading processes [default: one per core, at most 8]; 0 reads in this process.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=READ_SECONDS,
    show_default=True,
    help="For reading one sample.",
)
@click.option("--plan", "planning", is_flag=True, help="Say what is missing; compute nothing.")
@click.option(
    "--shard",
    metavar="I/N",
    help="Every N-th sample, from the I-th on (from 0), into a store of its own; `merstore merge` joins "
    "them [default: what torchrun or SLURM says].",
)
@click.option("--log", type=_folder, help="Append events to this file, as JSON lines.")
@click.option("--report", type=_folder, help="Write a page about the run to this file.")
@click.option("--part", hidden=True)  # of a process that shares the work with others, as i/n
@force_option
@console.as_json
def prewarm_(
    store: Path,
    media: Path,
    dataset: str,
    views: tuple[str, ...],
    profile: str,
    models: Path | None,
    weights: dict[str, str],
    device: str,
    retry: tuple[str, ...],
    jobs: int | None,
    seconds: float,
    planning: bool,
    shard: str | None,
    log: Path | None,
    report: Path | None,
    part: str | None,
    force: bool,
    as_json: bool,
    **beside: Any,
) -> int:
    """Compute views of all samples in MEDIA (a folder of clips, a list of clips, or with --corpus a
    corpus) into STORE.

    What is there already is not computed again: stopped and started again, it goes on where it was,
    and several may run at once. A sample that cannot be read becomes a failure record, which
    `merstore failures` lists and which is only tried again with --retry-failed.

    Exits with 1 where samples failed in this run.
    """
    settings = {
        "views": list(views),
        "profile": profile,
        "device": device,
        "jobs": jobs,
        "seconds": seconds,
        "retry": list(retry),
    }
    mine = Shard.parse(shard) if shard else Shard.here()
    found = "auto" if devices.several(device) else device
    recipes = _recipes(views, profile, models, weights, found)
    recipes = _of_noisy_copies(recipes, media, beside["sounds"])
    materials, samples = _materials(media, dataset, **beside)
    names = mine.names(samples) if mine else samples
    target = mine.path(store) if mine else store
    if mine and not part:
        console.note(f"shard {mine}: {len(names):,} of {len(samples):,} samples, into {target}")
    if planning:
        with _there(target, store) as stores:
            plan = make_plan(stores, dataset, names, recipes, retry)
        _print_plan(plan, as_json)
        return 0
    with contextlib.ExitStack() as stack:
        if log is None and (report is not None or found != device):
            log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log.jsonl"
        opened, base = _open(stack, store, target, force)
        if beside["corpus"] and not part:
            _store_labels(opened, dataset, media)
        try:
            with _bar(quiet=bool(part)) as bar:
                if found == device:
                    reports = prewarm(
                        opened,
                        dataset,
                        materials,
                        recipes,
                        names=names,
                        retry=retry,
                        jobs=jobs,
                        seconds=seconds,
                        base=base,
                        start=Shard.parse(part).index / Shard.parse(part).count if part else 0.0,
                        tell=_told(bar),
                        log=stack.enter_context(logs.Log(log)) if log else None,
                        about={"settings": settings, "shard": str(mine) if mine else None},
                    )
                else:
                    assert log is not None
                    reports = _on(devices.named(device), log, _told(bar))
        except KeyboardInterrupt:
            console.note("what is computed is in the store; the same command goes on from there")
            raise
        if report is not None and not part:
            from merstore.fill.report import facts_of, write_report

            opened.refresh()
            write_report(report, facts_of(opened, [each.view for each in reports], log))
    if as_json or part:
        console.json_out({"store": str(target), "views": [vars(each) for each in reports]})
    else:
        _print(target, reports)
    return 1 if any(each.failed for each in reports) else 0


def _recipes(
    views: tuple[str, ...],
    profile: str,
    models: Path | None,
    weights: dict[str, str],
    device: str,
) -> list["Recipe"]:
    made = []
    for view in views:
        tail, mark, options = view.partition("?")
        if "@" not in tail:
            tail = legacy.view_tail(tail)
        written = f"{tail}{mark}{options}"
        made.append(recipe_written(written, weights, profile=profile, device=device, models=models))
    return made


def _of_noisy_copies(recipes: list["Recipe"], media: Path, sounds: Path | None) -> list["Recipe"]:
    """Recipes whose spec says how the copies were made that `merstore noise` left in a folder."""
    from merstore.extract.recipes import MadeOf
    from merstore.noise.journal import journal_path, read_journal

    made = []
    for each in recipes:
        folder = sounds if sounds and each.reads == "audio" else media
        if each.reads in ("audio", "video") and journal_path(folder).is_file():
            made.append(cast("Recipe", MadeOf(each, {"noise": read_journal(folder).settings})))
        else:
            made.append(each)
    return made


@contextlib.contextmanager
def _there(*paths: Path) -> Iterator[list["Store"]]:
    """Those of the stores that exist, opened for reading."""
    import merstore

    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(merstore.open(path, "r"))
            for path in dict.fromkeys(paths)
            if (path / "data.mdb").exists()
        ]


def _open(
    stack: contextlib.ExitStack, store: Path, target: Path, force: bool
) -> tuple["Store", "Store | None"]:
    """The store to fill, and the one that it is a shard of, where that is there."""
    import merstore

    target.parent.mkdir(parents=True, exist_ok=True)
    opened = stack.enter_context(merstore.open(target, "a", force=force))
    base = stack.enter_context(_there(store)) if target != store else []
    return opened, base[0] if base else None


@contextlib.contextmanager
def _bar(quiet: bool) -> Iterator[console.Progress]:
    if quiet:
        yield lambda done, total, told="": None
    else:
        with console.progress("prewarming", "entries") as bar:
            yield bar


def _told(bar: console.Progress) -> Any:
    """A run's progress as a bar shows it."""

    def tell(told: Progress | Failed) -> None:
        if isinstance(told, Progress):
            parts = [f"{told.failed:,} failed"] if told.failed else []
            parts += [f"encoding {told.encoding:.0%}"] if told.encoding else []
            bar(told.done, told.total, ", ".join(parts))

    return tell


def _on(named: list[str], log: Path, tell: Any) -> list[FillReport]:
    """The same command on several devices at once."""

    def command(device: str, number: int) -> list[str]:
        return again("--device", device, "--part", f"{number}/{len(named)}", "--log", str(log))

    return devices.fill_on(named, command, log, tell)


def _materials(
    media: Path,
    dataset: str,
    corpus: bool,
    splits: tuple[str, ...],
    listed: Path | None,
    sounds: Path | None,
    faces: Path | None,
    texts: str | None,
    mer_factory: Path | None,
) -> tuple[Mapping[str, "Material"], list[str]]:
    """What there is of each sample, and the samples that are asked for."""
    from merstore.corpora import materials, open_corpus, transcripts
    from merstore.extract.clips import Clips
    from merstore.extract.mer_factory import MerFactory

    analyses = MerFactory(mer_factory, dataset) if mer_factory else None
    if corpus:
        if given := [path for path in (sounds, faces, texts) if path]:
            raise click.UsageError(f"--corpus knows where the media are: leave out {given[0]}")
        opened = open_corpus(dataset, media)
        whole = materials.CorpusMaterials(opened, analyses=analyses)
        names = list(Clips.from_list(listed, root=media) if listed else whole)
        if splits:
            wanted = {name for split in splits for name in _split(opened, split)}
            names = [name for name in names if name in wanted]
        return whole, names
    if splits:
        raise click.UsageError("--split is of a corpus: it needs --corpus")
    if listed is not None:
        clips = Clips.from_list(listed, root=media)
    else:
        clips = Clips.from_list(media) if media.is_file() else Clips.from_directory(media)
    file, _, column = texts.partition("#") if texts else ("", "", "")
    found = materials.beside(
        clips,
        faces=faces,
        sounds=sounds,
        analyses=analyses,
        texts=transcripts.texts_from(file, column or None) if texts else None,
    )
    return found, list(clips)


def _split(corpus: "Corpus", split: str) -> list[str]:
    splits = corpus.splits()
    if split not in splits:
        raise click.BadParameter(
            f"{corpus.key} has no split {split!r}; it has {', '.join(splits)}", param_hint="--split"
        )
    return splits[split]


def _store_labels(store: "Store", dataset: str, root: Path) -> None:
    """The corpus's labels and transcripts, so that the store is enough by itself."""
    from merstore.corpora import open_corpus, store_labels

    store_labels(store, open_corpus(dataset, root))


def _print_plan(plan: Plan, as_json: bool) -> None:
    if as_json:
        views = [vars(view) for view in plan.views]
        console.json_out({"views": views, "missing": plan.missing, "seconds": plan.seconds})
        return
    header = ["view", "samples", "there", "failed", "missing", "bytes", "time"]
    console.table(
        header,
        [
            [
                view.view,
                f"{view.samples:,}",
                f"{view.present:,}",
                f"{view.failed:,}",
                f"{view.missing:,}",
                "?" if view.bytes is None else console.size(view.bytes),
                "?" if view.seconds is None else console.duration(view.seconds),
            ]
            for view in plan.views
        ],
        right="samples there failed missing bytes time",
    )
    if plan.seconds is None:
        click.echo("time: not known, none of this was computed on a machine like this one yet")
    elif plan.missing:
        click.echo(f"time: about {console.duration(plan.seconds)}, reading included")


def _print(store: Path, reports: list[FillReport]) -> None:
    for report in reports:
        told = [f"{report.computed:,} computed"]
        told += [f"{report.elsewhere:,} by others meanwhile"] if report.elsewhere else []
        told += [f"{report.present:,} there already"] if report.present else []
        told += [f"{report.known_failures:,} failed before"] if report.known_failures else []
        told += [f"{report.failures:,} failed"] if report.failures else []
        click.echo(f"{report.view}: {', '.join(told)}")
    seconds = max(report.seconds for report in reports)
    count, nbytes = (sum(getattr(each, name) for each in reports) for name in ("computed", "bytes"))
    if count:
        click.echo(f"{console.duration(seconds)}{console.rate(count, 'entries', nbytes, seconds)}")
    for report in reports:
        for kind, names in sorted(report.failed.items()):
            console.listing(f"{report.view} {kind}: {len(names):,}", names, _SHOWN)
    if any(report.failed or report.known_failures for report in reports):
        click.echo(f"merstore failures {store} lists all and why")
