"""`merstore noise`: noisy copies of sound and of clips, to see how much features suffer from it."""

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merstore.cli import console
from merstore.fill.filler import default_jobs
from merstore.noise import Made, Noises, Settings, case, make_noisy
from merstore.noise.making import SECONDS

if TYPE_CHECKING:
    from merstore.store.store import Store

_SHOWN = 10  # failed samples of a kind
_SNRS = {"5": (5,), "10": (10,), "15": (15,), "mix": (5, 10, 15)}  # dB, MERBench's

_folder = click.Path(path_type=Path)


@click.group("noise", short_help="make noisy copies of sound or clips")
def noise_() -> None:
    """Make noisy copies of sound (for MERBench's *-noisesnr5 features) or of clips (MER-NOISE).

    What a sample gets follows from --seed and its name alone, so that every run makes the same. The
    recipe of each (noise files and their contents, start, SNR, blur, scale) is in OUT.recipe.jsonl
    and, with --store, in a view of DATASET. Stopped and started again, a command goes on where it
    was; failed samples are tried again.

    Exits with 1 where samples failed.
    """


def _options(command: Callable[..., int]) -> Callable[..., int]:
    """What both commands take."""
    for option in reversed(
        (
            click.argument("clips", metavar="IN", type=_folder),
            click.option(
                "--noise",
                type=_folder,
                required=True,
                help="A folder of sound files, and what is below it.",
            ),
            click.option("--seed", type=int, default=0, show_default=True),
            click.option("--list", "listed", type=_folder, help="Only the samples in this file."),
            click.option("--store", type=_folder, help="Keep the recipes in this store too."),
            click.option("--dataset", help="With --store: what the clips are of, such as mer2023."),
            click.option(
                "--jobs",
                type=click.IntRange(min=0),
                help="Processes [default: one per core, at most 8]; 0 for none.",
            ),
            click.option(
                "--seconds",
                type=click.FloatRange(min=0, min_open=True),
                default=SECONDS,
                show_default=True,
                help="For one sample.",
            ),
            console.as_json,
        )
    ):
        command = option(command)
    return command


@noise_.command("audio", short_help="sound with noise, as WAV files")
@_options
@click.argument("out", required=False, type=_folder)
@click.option("--snr", type=click.Choice(list(_SNRS)), required=True, help="dB; mix: 5, 10 or 15.")
def audio_(clips: Path, out: Path | None, noise: Path, snr: str, seed: int, **how: Any) -> int:
    """Make NAME.wav (16 kHz, mono) with noise of the sound of each file in IN, sound or clips, into
    OUT, by default IN_snr5, IN_snrmix and so on, where MERTools looks for it.
    """
    settings = Settings("audio", Noises.of(noise), _SNRS[snr], seed=seed)
    if out is None:
        whole = Path(os.path.abspath(clips))
        out = whole.with_name(f"{whole.name}_{case(settings.snrs)}")
    return _make(clips, out, settings, **how)


@noise_.command("video", short_help="blurred clips with noise")
@_options
@click.argument("out", type=_folder)
@click.option(
    "--snr",
    metavar="FIRST..LAST or N,N,...",
    default="5..10",
    show_default=True,
    help="dB, whole numbers; one is drawn for each clip.",
)
@click.option(
    "--blur",
    metavar="N,N,...",
    default="1,2,4",
    show_default=True,
    help="By how much pictures are made smaller and large again; one is drawn for each clip.",
)
def video_(clips: Path, out: Path, noise: Path, snr: str, blur: str, seed: int, **how: Any) -> int:
    """Make NAME.mp4 of each clip in IN into OUT: its pictures blurred (1 leaves them), encoded anew as
    MPEG-4, and its sound with noise, at 16 kHz, mono, as AAC.

    Sides that the blur does not divide are rounded up to a multiple of it.
    """
    snrs, blurs = _numbers(snr, "--snr"), _numbers(blur, "--blur")
    return _make(clips, out, Settings("video", Noises.of(noise), snrs, blurs, seed), **how)


def _numbers(text: str, option: str) -> tuple[int, ...]:
    """``5..10`` or ``1,2,4``."""
    span = re.fullmatch(r"(-?\d{1,3})\.\.(-?\d{1,3})", text)
    if span:
        found = tuple(range(int(span[1]), int(span[2]) + 1))
    elif re.fullmatch(r"-?\d{1,3}(,-?\d{1,3})*", text):
        found = tuple(dict.fromkeys(map(int, text.split(","))))
    else:
        found = ()
    if not found:
        raise click.BadParameter(f"{text!r}: write 5..10 or 5,7,9", param_hint=option)
    return found


def _make(
    clips: Path,
    out: Path,
    settings: Settings,
    listed: Path | None,
    store: Path | None,
    dataset: str | None,
    jobs: int | None,
    seconds: float,
    as_json: bool,
) -> int:
    if (store is None) != (dataset is None):
        raise click.UsageError("--store and --dataset go together")
    samples = _samples(clips, listed)
    with (
        _opened(store) as opened,
        console.progress("making noise", "samples") as bar,
    ):
        try:
            made = make_noisy(
                samples,
                out,
                settings,
                jobs=default_jobs() if jobs is None else jobs,
                seconds=seconds,
                store=opened,
                dataset=dataset,
                tell=lambda done, total, failed: bar(
                    done, total, f"{failed:,} failed" * (failed > 0)
                ),
            )
        except KeyboardInterrupt:
            console.note("what is made is whole; the same command goes on from there")
            raise
    if as_json:
        console.json_out({**vars(made), "failures": made.failures})
    else:
        _print(made)
    return 1 if made.failed else 0


def _samples(clips: Path, listed: Path | None) -> Mapping[str, Path]:
    from merstore.extract.clips import Clips

    there = Clips.from_directory(clips)
    if listed is None:
        return there
    return {name: there.get(name, path) for name, path in Clips.from_list(listed, clips).items()}


@contextlib.contextmanager
def _opened(store: Path | None) -> "Iterator[Store | None]":
    import merstore

    if store is None:
        yield None
        return
    store.parent.mkdir(parents=True, exist_ok=True)
    with merstore.open(store, "a") as opened:
        yield opened


def _print(made: Made) -> None:
    told = [f"{made.made:,} made"]
    told += [f"{made.present:,} there already"] if made.present else []
    told += [f"{made.failures:,} failed"] if made.failures else []
    click.echo(f"{made.folder}: {', '.join(told)}, in {console.duration(made.seconds)}")
    for kind, failed in sorted(made.failed.items()):
        lines = [f"{name}: {message}" for name, message in failed.items()]
        console.listing(kind, lines, _SHOWN)
    click.echo(f"recipes: {made.recipes}" + (f" and the view {made.view}" if made.view else ""))
