"""`merstore affectgpt`: the command lines of AffectGPT's fork, done by `merstore prewarm`."""

import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from merstore.cli import console
from merstore.cli.prewarm import prewarm_
from merstore.corpora.unibench import TEST_SPLITS
from merstore.errors import MerstoreError
from merstore.store import legacy

_folder = click.Path(path_type=Path)
_PROFILE = ["--profile", "affectgpt"]
_device = click.option("--device", default="cuda:0", show_default=True)
_models = click.option("--models", type=_folder, help="A folder with a folder for each encoder.")
_quiet = click.option(
    "--quiet", is_flag=True, help="Accepted; progress is shown on a terminal only."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_visual = click.Choice(legacy.AFFECTGPT_VISUAL)


@click.group("affectgpt", short_help="AffectGPT's own extraction commands")
def affectgpt_() -> None:
    """The options of AffectGPT's extraction scripts, computed into a store instead of folders.

    Every name of a view is the folder's that the script would have written: `merstore export` makes
    those folders of it.
    """


@affectgpt_.command("precompute")
@click.option("--dataset", required=True)
@click.option(
    "--modality",
    type=click.Choice(["frame", "face", "audio", "multi", "au", "all"]),
    default="all",
    show_default=True,
)
@_device
@_quiet
@click.option("--skip-multi-preextract", is_flag=True, help="Accepted: it is always skipped.")
@click.option("--video_root", type=_folder)
@click.option("--face_root", type=_folder)
@click.option("--audio_root", type=_folder)
@click.option("--sample_list", type=_folder, help="One name a line.")
@click.option("--csv_path", type=_folder)
@click.option("--csv_column", default="names", show_default=True, help="`name` will also do.")
@click.option("--save_root", type=_folder, default="preextracted_features", show_default=True)
@click.option("--mer-factory-output", type=_folder)
@click.option("--visual_encoder", type=_visual, default="CLIP_VIT_LARGE", show_default=True)
@click.option(
    "--acoustic_encoder",
    type=click.Choice(legacy.AFFECTGPT_ACOUSTIC),
    default="HUBERT_LARGE",
    show_default=True,
)
@click.option(
    "--frame_n_frms", "--n_frms", type=click.IntRange(min=1), default=8, show_default=True
)
@click.option(
    "--frame_sampling",
    type=click.Choice(legacy.AFFECTGPT_SAMPLINGS),
    default="uniform",
    show_default=True,
)
@click.option("--clips_per_video", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--store", type=_folder, help="[default: SAVE_ROOT.mer]")
@_models
@_as_json
def precompute(
    dataset: str,
    modality: str,
    device: str,
    save_root: Path,
    store: Path | None,
    models: Path | None,
    as_json: bool,
    **asked: Any,
) -> int:
    """extract_multimodal_features_precompute.py.

    What differs: a clip may have any extension, face tracks may be flat or nested, a missing thing is
    a failure record and never zeros or another sampling rule, and fused (`multi`) features are left
    to whoever has a trained model.
    """
    chosen = ["frame", "face", "audio", "au"] if modality == "all" else [modality]
    if modality == "multi":
        raise click.BadParameter("fused features need a trained model", param_hint="--modality")
    if modality == "all":
        console.note("multi: left out, its weights would be untrained")
    roots = {
        "frame": asked["video_root"],
        "face": asked["face_root"],
        "audio": asked["audio_root"],
        "au": asked["mer_factory_output"],
    }
    if asked["frame_sampling"] == "emotion_peak" and "frame" in chosen and not roots["au"]:
        raise click.UsageError("--frame_sampling emotion_peak needs --mer-factory-output")
    for each in chosen:
        if roots[each] is None:
            option = "--mer-factory-output" if each == "au" else f"--{_ROOTS[each]}"
            raise click.UsageError(f"--modality {modality} needs {option}")
    visual, n = asked["visual_encoder"], asked["frame_n_frms"]
    tails = {
        "frame": f"frame@{visual}/{asked['frame_sampling']}_{n}frms",
        "face": f"face@{visual}/8frms",
        "audio": f"audio@{asked['acoustic_encoder']}/{asked['clips_per_video']}clips",
        "au": "au@CLIP_VITB32/8frms",
    }
    where = store or save_root.with_name(f"{save_root.name}.mer")
    media = next(root for root in roots.values() if root is not None)
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "names.txt"
        listed.write_text("\n".join(_names(asked)), encoding="utf-8")
        words: list[object] = [where, media, "--dataset", legacy.dataset_key(dataset), *_PROFILE]
        words += ["--device", device, "--list", listed]
        words += [word for each in chosen for word in ("--view", tails[each])]
        words += ["--sounds", roots["audio"]] if roots["audio"] else []
        words += ["--faces", roots["face"]] if roots["face"] else []
        words += ["--mer-factory", roots["au"]] if roots["au"] else []
        return _prewarm(words, models, as_json)


@affectgpt_.command("emotion-peak")
@click.option(
    "--datasets",
    multiple=True,
    default=list(TEST_SPLITS),
    help="One or more, with blanks between  [default: all nine].",
)
@click.argument("more", nargs=-1, metavar="")
@click.option("--output-root", type=_folder, default="preextracted_features", show_default=True)
@click.option("--mer-factory-output", type=_folder, required=True)
@click.option("--visual-encoder", type=_visual, default="CLIP_VIT_LARGE", show_default=True)
@click.option("--n-frms", type=click.IntRange(min=1), default=8, show_default=True)
@_device
@_quiet
@click.option("--root", type=_folder, required=True, help="Where the folders of the corpora are.")
@click.option(
    "--variant",
    type=click.Choice(["strict", "reader"]),
    default="strict",
    show_default=True,
    help="reader: the middle frame where there is no au_info, as the script does.",
)
@click.option("--store", type=_folder, help="[default: OUTPUT_ROOT.mer]")
@_models
@_as_json
def emotion_peak(
    datasets: tuple[str, ...],
    more: tuple[str, ...],
    output_root: Path,
    mer_factory_output: Path,
    visual_encoder: str,
    n_frms: int,
    device: str,
    quiet: bool,
    root: Path,
    variant: str,
    store: Path | None,
    models: Path | None,
    as_json: bool,
) -> int:
    """MER-UniBench/extract_frame_emotion_peak_batch.py: the test sets, frames around the peak."""
    keys = [legacy.dataset_key(name) for given in (*datasets, *more) for name in given.split()]
    if strange := [key for key in keys if key not in TEST_SPLITS]:
        raise click.BadParameter(
            f"{strange[0]!r} is none of {', '.join(TEST_SPLITS)}", param_hint="--datasets"
        )
    where = store or output_root.with_name(f"{output_root.name}.mer")
    view = f"frame@{visual_encoder}/emotion_peak_{n_frms}frms?variant={variant}"
    worst = 0
    for key in keys:
        words: list[object] = [where, root, "--dataset", key, "--corpus", *_PROFILE]
        words += ["--view", view, "--mer-factory", mer_factory_output, "--device", device]
        split = TEST_SPLITS[key]
        words += ["--split", split] if split else []
        worst = max(worst, _prewarm(words, models, as_json))
    return worst


_ROOTS = {"frame": "video_root", "face": "face_root", "audio": "audio_root"}


def _names(asked: dict[str, Any]) -> list[str]:
    """The samples of --sample_list or --csv_path."""
    listed, table, column = asked["sample_list"], asked["csv_path"], asked["csv_column"]
    if (listed is None) == (table is None):
        raise click.UsageError("give one of --sample_list and --csv_path")
    try:
        text = (listed or table).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise MerstoreError(f"{listed or table}: cannot be read: {error}") from None
    if listed is not None:
        return [line.strip() for line in text.splitlines() if line.strip()]
    rows = csv.DictReader(text.splitlines())
    known = rows.fieldnames or []
    column = next((each for each in (column, "name") if each in known), None)
    if column is None:
        raise MerstoreError(
            f"{table}: no column {asked['csv_column']!r}; it has {', '.join(known)}"
        )
    return [row[column].strip() for row in rows if row[column]]


def _prewarm(words: Sequence[object], models: Path | None, as_json: bool) -> int:
    words = [*words, *(["--models", models] if models else []), *(["--json"] if as_json else [])]
    args = [str(word) for word in words]
    console.note(f"merstore prewarm {' '.join(args)}")
    with prewarm_.make_context("prewarm", list(args), obj=("prewarm", *args)) as context:
        return int(prewarm_.invoke(context) or 0)
