"""`merstore prewarm`: computes a view for a whole dataset before it is needed."""

from pathlib import Path
from typing import Any

import click

from merstore.cli import console
from merstore.cli.opening import force_option, store_argument
from merstore.extract.clips import Clips
from merstore.extract.video_features import RULES, VideoFeatures
from merstore.extract.vision import VisionEncoder
from merstore.fill import Filler, FillReport, declare


@click.command("prewarm", short_help="compute the features of a whole dataset")
@store_argument
@click.argument("media", type=click.Path(path_type=Path))
@click.option(
    "--dataset", required=True, help="Name of the dataset that the clips are of, such as mer2023."
)
@click.option("--encoder", required=True, help="A vision encoder: its folder, or its hub id.")
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Frames of each clip.",
)
@click.option("--sampling", type=click.Choice(list(RULES)), default="uniform", show_default=True)
@click.option(
    "--list", "listed", type=click.Path(path_type=Path), help="Only the clips listed in this file."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--retry-failed",
    "retry",
    metavar="KIND",
    multiple=True,
    help="Try failures of this kind again, or of all kinds: all. May be repeated.",
)
@click.option(
    "--batch",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Clips encoded together.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Decoding threads [default: one per core, at most 8].",
)
@force_option
@console.as_json
def prewarm_(
    store: Path,
    media: Path,
    dataset: str,
    encoder: str,
    frames: int,
    sampling: str,
    listed: Path | None,
    device: str,
    retry: tuple[str, ...],
    batch: int,
    jobs: int | None,
    force: bool,
    as_json: bool,
) -> int:
    """Compute the features of all clips in MEDIA (a folder, or a list of clips) into STORE.

    What is there already is not computed again: stopped and started again, it goes on where it was,
    and several may run at once. A clip that cannot be read becomes a failure record, which
    `merstore failures` lists and which is only tried again with --retry-failed.

    Exits with 1 where clips failed in this run.
    """
    import merstore

    clips = _clips(media, listed)
    try:
        extractor = VideoFeatures(VisionEncoder(encoder, device), n=frames, rule=sampling)
    except ValueError as wrong:
        raise click.UsageError(str(wrong)) from None
    with merstore.open(store, "a", force=force) as opened:
        view = declare(opened, dataset, extractor)
        try:
            with console.progress("prewarming", "clips") as bar:
                report = Filler(clips, extractor, batch=batch, jobs=jobs).fill(
                    view,
                    retry=retry,
                    progress=lambda done, total, failed: bar(
                        done, total, f"{failed:,} failed" if failed else ""
                    ),
                )
        except KeyboardInterrupt:
            console.note("what is computed is in the store; the same command goes on from there")
            raise
    summary = _summary(view.path, report)
    if as_json:
        console.json_out(summary)
    else:
        _print(store, summary, report)
    return 1 if report.failed else 0


def _clips(media: Path, listed: Path | None) -> Clips:
    if listed is not None:
        return Clips.from_list(listed, root=media)
    return Clips.from_list(media) if media.is_file() else Clips.from_directory(media)


def _summary(view: str, report: FillReport) -> dict[str, Any]:
    return {
        "view": view,
        "samples": report.samples,
        "present": report.present,
        "known_failures": report.known_failures,
        "computed": report.computed,
        "elsewhere": report.elsewhere,
        "failed": report.failed,
        "seconds": report.seconds,
        "bytes": report.bytes,
    }


def _print(store: Path, summary: dict[str, Any], report: FillReport) -> None:
    def counted(n: int, note: str = "") -> str | None:
        return f"{n:,}{note}" if n else None

    failures = sum(map(len, report.failed.values()))
    kinds = ", ".join(f"{kind} {len(names):,}" for kind, names in sorted(report.failed.items()))
    speed = console.rate(report.computed, "clips", report.bytes, report.seconds)
    console.fields(
        {
            "view": summary["view"],
            "clips": f"{report.samples:,}",
            "computed": f"{report.computed:,}{speed}",
            "present": counted(report.present),
            "by others": counted(report.elsewhere, "  (another process computed them meanwhile)"),
            "failed": counted(failures, f"  ({kinds})"),
            "failed before": counted(
                report.known_failures, "  (--retry-failed KIND tries them again)"
            ),
        }
    )
    if failures:
        console.note(f"to see why: merstore failures {store} {summary['view']}")
