"""`merstore tune`: measures loader settings on this machine and keeps the best."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from merstore.cli import console
from merstore.cli.opening import find_view, open_store, store_argument

if TYPE_CHECKING:
    from merstore.load.results import Trial, Tuning


@click.command("tune", short_help="find the fastest loader settings for views")
@store_argument
@click.argument("views", metavar="VIEW...", nargs=-1, required=True)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long to measure, about.",
)
@click.option(
    "--batch-size", type=click.IntRange(min=1), default=256, show_default=True, help="Samples."
)
@click.option(
    "--device", help="Where batches go: cpu, cuda, cuda:1 [default: cuda if there is one]."
)
@click.option(
    "--step-ms",
    "steps",
    type=click.FloatRange(min=0.1),
    multiple=True,
    help="What your model takes for a step, for the head-room. May be repeated. [default: 1, 5, 20, 100]",
)
@click.option(
    "--cold/--no-cold",
    default=True,
    help="Whether to measure from the disk too, with the store taken out of the page cache.",
)
@click.option("--save/--no-save", default=True, help="Whether to keep the profile.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots.")
@click.option(
    "--benchmark-json",
    type=click.Path(path_type=Path),
    help="Write what `pytest-benchmark compare` reads.",
)
@console.as_json
def tune_(
    store: Path,
    views: tuple[str, ...],
    seconds: float,
    batch_size: int,
    device: str | None,
    steps: tuple[float, ...],
    cold: bool,
    save: bool,
    html: Path | None,
    benchmark_json: Path | None,
    as_json: bool,
) -> None:
    """Measure FeatureLoader over the VIEWs of STORE, joined by sample, under many settings, and keep the fastest.

    The profile is kept in the store (or in your cache folder where the store cannot be written), together with
    what this machine is: FeatureLoader(..., profile="auto") uses it, `merstore info` shows it.
    """
    import merstore.profile

    try:
        from merstore.load.tuning import STEPS_MS, tune
    except ModuleNotFoundError as missing:
        told = f"{missing.name} is not installed: pip install 'merstore[tune]'"
        raise click.ClickException(told) from None

    with open_store(store) as opened:
        paths = [find_view(opened, view).path for view in views]
    with console.progress("tuning", "s") as bar:
        tuning = tune(
            store,
            paths,
            batch_size=batch_size,
            device=_device(device),
            seconds=seconds,
            steps_ms=sorted(steps or STEPS_MS),
            cold=cold,
            progress=lambda spent, budget, told: bar(round(spent), round(budget), told),
        )
    _write(tuning, html, benchmark_json)
    if as_json:
        console.json_out(tuning.json())
    else:
        _print(tuning)
    if save:
        where = merstore.profile.keep(store, tuning.profile)
        console.note(f'kept in {where}: FeatureLoader(..., profile="auto") uses it')


def _device(name: str | None) -> str | None:
    """None for memory."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else None
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as wrong:
        told = f"--device {name}: {str(wrong).splitlines()[0]}"
        raise click.UsageError(told) from None
    return None if device.type == "cpu" else name


def _write(tuning: "Tuning", html: Path | None, benchmark_json: Path | None) -> None:
    if html is not None:
        from merstore import pages
        from merstore.load import tuning_report

        pages.write(html, tuning_report.html(tuning))
        console.note(f"written: {html}")
    if benchmark_json is not None:
        from merstore.load import benchmark_json as pytest_benchmark

        text = json.dumps(pytest_benchmark.benchmark_json(tuning), indent=1, ensure_ascii=False)
        benchmark_json.write_text(text + "\n", encoding="utf-8")
        console.note(f"written: {benchmark_json}")


def _print(tuning: "Tuning") -> None:
    from merstore.load.results import COLD, OTHERS, SIZES, THREADS

    machine, profile = tuning.machine, tuning.profile
    for path, view in tuning.views.items():
        click.echo(f"{path}  {view['dtype']} {console.shape(view['shape'])}")
    click.echo(
        f"{console.plural(tuning.samples, 'sample')} in batches of {tuning.batch_size}"
        f"{f' on {tuning.device}' if tuning.device else ''}; {machine['cpu']}, "
        f"{console.plural(machine['cores'], 'core')}, {machine['filesystem']}"
    )
    for group in (THREADS, OTHERS, SIZES, COLD):
        trials = tuning.group(group)
        if trials:
            click.echo()
            console.table(
                [group.upper(), "BATCH", "SAMPLES/S", "GB/S", "P50-MS", "P99-MS", "ROUNDS", ""],
                [_row(trial, tuning) for trial in trials],
                right="BATCH SAMPLES/S GB/S P50-MS P99-MS ROUNDS",
            )
    click.echo()
    console.table(
        ["CEILING", "GB/S", "REACHED"],
        [
            [
                name,
                f"{rate / 1e9:.2f}",
                "-" if (share := tuning.share(name)) is None else f"{share:.0%}",
            ]
            for name, rate in tuning.ceilings.items()
        ],
        right="GB/S REACHED",
    )
    click.echo()
    console.table(
        ["A STEP TAKES", "WAITS", "WITHOUT-THREADS"],
        [
            [f"{room.step_ms:g} ms", f"{room.share:.1%}", f"{room.without_threads:.1%}"]
            for room in tuning.headroom
        ],
        right="WAITS WITHOUT-THREADS",
    )
    click.echo()
    console.fields(
        {
            "best": tuning.chosen.candidate.label,
            "settings": ", ".join(f"{k}={v!r}" for k, v in profile.settings.items()),
            "rate": f"{console.number(profile.samples_per_second)} samples/s, "
            f"{profile.bytes_per_second / 1e9:.2f} GB/s (a round differs by {tuning.noise:.1%})",
            "bound by": tuning.bound,
        }
    )
    for note in tuning.notes:
        console.note(f"note: {note}")


def _row(trial: "Trial", tuning: "Tuning") -> list[str]:
    told = ""
    if trial is tuning.chosen:
        told = "best"
    elif trial.stopped:
        told = trial.stopped if trial.stopped.startswith("failed") else f"stopped: {trial.stopped}"
    elif trial.candidate.num_workers:
        told = f"for comparison; starting takes {console.duration(trial.first)}"
    elif not trial.candidate.adoptable:
        told = "for comparison"
    numbers = ["-"] * 4
    if trial.runs:
        numbers = [
            console.number(trial.rate),
            f"{trial.bytes_per_second / 1e9:.2f}",
            *(f"{trial.latency(percentile) * 1e3:.2f}" for percentile in (50, 99)),
        ]
    return [
        trial.candidate.label,
        str(trial.candidate.batch_size),
        *numbers,
        str(len(trial.runs)),
        told,
    ]
