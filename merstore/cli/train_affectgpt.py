"""`merstore train affectgpt`: trains adapters and projections on features in a store."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merstore.cli import console
from merstore.cli.opening import open_store

if TYPE_CHECKING:
    from merstore.models.affectgpt import AffectGPT
    from merstore.run.tuning_llm import Options, Run

_path = click.Path(path_type=Path)


@click.command("affectgpt", short_help="train AffectGPT's adapters and projections")
@click.option("--store", type=_path, required=True, help="Features, labels and transcripts.")
@click.option("--llm", required=True, help="The language model's folder or hub id.")
@click.option("--dataset", required=True, metavar="NAMES", help="Datasets, with commas between.")
@click.option(
    "--output", type=_path, required=True, help="The folder of the checkpoints, and of the state."
)
@click.option(
    "--mode",
    default="multiface_audio_face_text",
    show_default=True,
    help="Which modalities, and the prompt.",
)
@click.option(
    "--feature",
    "views",
    metavar="MODALITY=VIEW",
    multiple=True,
    callback=console.named,
    help="Another view than the usual one, such as frame=frame@CLIP_VIT_LARGE/uniform_16frms.",
)
@click.option(
    "--label-type",
    "label_types",
    multiple=True,
    help="ovlabel, description, ...; may be repeated: one is drawn for each sample.  [default: all]",
)
@click.option(
    "--ratio",
    "ratios",
    metavar="DATASET=NUMBER",
    multiple=True,
    callback=console.named,
    help="How datasets are mixed.  [default: every sample as often as any other]",
)
@click.option(
    "--model",
    "checkpoints",
    type=_path,
    multiple=True,
    help="Begin with this checkpoint; may be repeated, later ones over earlier ones.",
)
@click.option("--epochs", type=click.IntRange(1), default=60, show_default=True)
@click.option(
    "--steps", type=click.IntRange(1), default=5000, show_default=True, help="In an epoch."
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Samples on a device.",
)
@click.option(
    "--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Batches in a step."
)
@click.option("--lr", type=float, default=1e-5, show_default=True, help="Learning rate.")
@click.option("--min-lr", type=float, help="What it falls to.  [default: the same]")
@click.option("--weight-decay", type=float, default=0.05, show_default=True)
@click.option(
    "--max-length",
    type=click.IntRange(2),
    default=1024,
    show_default=True,
    help="Tokens of prompt and answer.",
)
@click.option(
    "--corpora",
    type=_path,
    help="A folder with the corpora, for labels and subtitles that the store has not.",
)
@click.option("--nonverbal", type=_path, help="The file of nonverbal clues.")
@click.option(
    "--on-miss",
    type=click.Choice(["raise", "skip"]),
    default="raise",
    show_default=True,
    help="What to do with samples that lack a feature or subtitle, or do not fit.",
)
@click.option("--seed", type=int, default=42, show_default=True)
@click.option(
    "--state-every",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Steps between two states.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda:1, ...")
@click.option("--html", type=_path, help="Write a page with the curves after every epoch.")
@console.as_json
def affectgpt_(as_json: bool, **asked: Any) -> None:
    """Train AffectGPT on stored features; no encoder is loaded.

    Started again with the same options, it goes on where it was stopped, exactly. On several GPUs:
    accelerate launch -m merstore.cli train affectgpt ...
    """
    try:
        from merstore.run.tuning_llm import Material, corpus_of, train
        from merstore.run.tuning_llm.devices import first, local_device
    except ModuleNotFoundError as missing:
        told = f"{missing.name} is not installed: pip install 'merstore[affectgpt]'"
        raise click.ClickException(told) from None
    from merstore.models.affectgpt import Tokens
    from merstore.run.inference import read_template

    options = _options(asked)
    views = read_template("full").changed(asked["views"])
    with open_store(asked["store"]) as store:
        corpora = [
            corpus_of(store, name.strip(), root=asked["corpora"], nonverbal=asked["nonverbal"])
            for name in asked["dataset"].split(",")
        ]
        config = _config(asked["checkpoints"])
        au = config.au_fusion is not None and asked["mode"] == "multiface_audio_face_frame_au_text"
        wanted = views.needed(asked["mode"], au)
        material = Material(
            store,
            corpora,
            Tokens.from_folder(asked["llm"], config.queries, au=config.au_fusion is not None),
            asked["mode"],
            {modality: each.view for modality, each in wanted.items()},
            label_types=asked["label_types"] or None,
            on_miss=asked["on_miss"],
            max_length=asked["max_length"],
            seed=asked["seed"],
            au_features=au,
        )
        if material.left_out and first():
            console.note(f"left out: {material.lacking()}")
        if not asked["checkpoints"]:
            config = _fitting(config, material.widths)
        model = _model(
            asked["llm"], asked["checkpoints"], config, local_device(asked["device"]), options.seed
        )
        with console.progress("training", "steps") as bar:
            run = train(model, material, asked["output"], options, page=asked["html"], tell=bar)
    if first():
        _print(run, material.counts, as_json)


def _options(asked: dict[str, Any]) -> "Options":
    from merstore.run.tuning_llm import Options
    from merstore.store.legacy import dataset_key

    ratios = {dataset_key(name): _number(value) for name, value in asked["ratios"].items()}
    names = ("epochs", "steps", "batch_size", "accumulate", "lr", "weight_decay", "seed")
    return Options(
        min_lr=asked["lr"] if asked["min_lr"] is None else asked["min_lr"],
        ratios=ratios or None,
        state_every=asked["state_every"],
        **{name: asked[name] for name in names},
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number", param_hint="--ratio") from None


def _config(checkpoints: tuple[Path, ...]) -> Any:
    from merstore.models.affectgpt import Config, config_of, read

    return config_of([read(path) for path in checkpoints]) if checkpoints else Config()


def _fitting(config: Any, widths: dict[str, int]) -> Any:
    """For features of other encoders than the usual ones."""
    fields = {"frame": "visual_dim", "face": "visual_dim", "image": "visual_dim"}
    fields["audio"] = "acoustic_dim"
    return replace(config, **{fields[name]: n for name, n in widths.items() if name in fields})


def _model(
    llm: str, checkpoints: tuple[Path, ...], config: Any, device: str, seed: int
) -> "AffectGPT":
    import torch

    from merstore.models.affectgpt import AffectGPT, load, load_llm

    loaded = load_llm(llm, device)
    torch.manual_seed(seed)  # new adapters and projections
    model = AffectGPT(loaded, config)
    if checkpoints:
        console.note(str(load(model, checkpoints)))
    return model


def _print(run: "Run", counts: dict[str, int], as_json: bool) -> None:
    means = run.epoch_losses
    if as_json:
        console.json_out(
            {
                "folder": run.folder,
                "samples": counts,
                "begun": run.begun,
                "losses": run.losses,
                "epochs": means,
                "checkpoints": run.checkpoints,
            }
        )
        return
    done = len(run.losses) - run.begun
    told = f", after {run.begun:,} before" if run.begun else ""
    samples = ", ".join(f"{name}: {n:,}" for name, n in counts.items())
    click.echo(f"{console.plural(done, 'step')}{told} on {samples}; loss {means[-1]:.3f}")
    for path in run.checkpoints:
        click.echo(f"written: {path}")
