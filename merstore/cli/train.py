"""`merstore train`: trains baselines on views of a store, under many hyper-parameters at once."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from merstore.cli import console
from merstore.cli.opening import open_store

if TYPE_CHECKING:
    from merstore.run.training import Problem, Run
    from merstore.run.training.results import Results
    from merstore.store.store import Store

ROLES = ("audio", "text", "video")


class NoneOr(click.ParamType[str | None]):
    """A text; `none`, in any case, is None, as MERTools parses it."""

    name = "text"

    def convert(self, value: Any, param: Any, ctx: Any) -> str | None:
        return None if str(value).casefold() == "none" else str(value)


def option(name: str, **how: Any) -> Callable[[Any], Any]:
    """An option by MERTools' name, spelled with _ or with -."""
    spellings = dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}"))
    return click.option(*spellings, name, **{"show_default": True, **how})


class Train(click.Command):
    """`train affectgpt` is a command of its own: it has other options."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any
    ) -> click.Context:
        if args[:1] == ["affectgpt"]:
            from merstore.cli.train_affectgpt import affectgpt_

            return affectgpt_.make_context(f"{info_name} affectgpt", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command("train", cls=Train, short_help="train baselines, or AffectGPT")
@click.argument("name", metavar="[MODEL]", required=False)
@option("store", type=click.Path(path_type=Path), required=True, help="The store's folder.")
@option("model", help="attention, attention_topn, lf_dnn, lmf, tfn, misa or mmim, as MODEL.")
@option("dataset", help="What to train and test on: mer2023, MER2024, IEMOCAPFour, ...")
@option("train_dataset", help="Train on this one, and test on --test_dataset.")
@option("test_dataset", help="See --train_dataset.")
@option("labels", help="A set of labels, where the dataset has several: 4way.")
@option(
    "labels_from",
    type=click.Path(path_type=Path, exists=True),
    help="A corpus's folder or label file to read labels from, in place of the store's.",
)
@option("audio_feature", help="A feature: legacy folder name, tail of a view, or path.")
@option("text_feature", help="Likewise. Roles not given take what another role has.")
@option("video_feature", help="Likewise.")
@option("train_snr", type=NoneOr(), help="Noisy variant of the features to train on: noisesnr5.")
@option("test_snr", type=NoneOr(), help="The same for tests.")
@option("fusion_topn", type=click.IntRange(1), help="Join the best n features of each list.")
@option("fusion_modality", default="AVT", help="Which lists: AVT, AV, AT or VT.")
@option(
    "ranks",
    help="Lists for --fusion_topn: MER2024, MERBench, MER2025, MER2026; or `results`, from the runs "
    "in the store. [default: the dataset's own, or MER2024]",
    show_default=False,
)
@option("feat_type", default="utt", help="utt, frm_align or frm_unalign.")
@option("feat_scale", type=click.IntRange(1), help="Rows to one. [default: by feat_type: 1, 6, 12]")
@option("n_classes", type=int, help="Checked against the labels, which say it.")
@option("e2e_name", help="Not supported: baselines train on features.")
@option("e2e_dim", type=int, help="Not supported.")
@option("trials", type=click.IntRange(1), default=1, help="How many draws of hyper-parameters.")
@option("grid", is_flag=True, help="Every combination, in place of draws.")
@option(
    "hyper_path",
    type=click.Path(path_type=Path),
    help="YAML of hyper-parameters: one value each, or lists to choose from.",
)
@option("hidden_dim", type=int, help="Fix this hyper-parameter.")
@option("dropout", type=float, help="Likewise.")
@option("grad_clip", type=float, help="Likewise.")
@option("lr", type=float, help="Likewise.")
@option("lr_adjust", default="case1", help="case1: a constant rate. MERTools uses no other.")
@option("l2", type=float, default=1e-5, help="Weight decay.")
@option("batch_size", type=click.IntRange(1), default=32, help="Samples.")
@option("epochs", type=click.IntRange(1), default=100, help="In each fold.")
@option(
    "folds", type=click.IntRange(2), default=5, help="Where the corpus has no split of its own."
)
@click.option("--shuffle/--no-shuffle", default=True, help="A new order in every epoch.")
@option("seed", type=int, default=0, help="Everything random comes from it.")
@option("gpu", type=int, default=0, help="Which, if there is one; -1 for none.")
@option("jobs", type=click.IntRange(1), help="Processes for what cannot be trained as one.")
@option("num_workers", type=int, default=0, help="Not needed: features are read once.")
@option("print_iters", type=float, default=1e8, help="Not needed: there is a progress bar.")
@option("save_iters", type=float, default=1e8, help="Not needed: results are kept at the end.")
@option("on_miss", default="raise", help="raise, or skip samples that lack a feature.")
@option("debug", is_flag=True, help="The first 100 samples of each split.")
@click.option("--keep/--no-keep", default=True, help="Whether to keep results in the store.")
@option("run", help="The name to keep them under. [default: time and a few letters]")
@option("export_npz", is_flag=True, help="Write MERTools' result files below --save_root.")
@option("savemodel", is_flag=True, help="Write the best trial's weights below --save_root.")
@option("save_root", type=click.Path(path_type=Path), default="./saved", help="See --export-npz.")
@option("leaderboard", type=click.Path(path_type=Path), help="Folder for the CSVs of challenges.")
@option("html", type=click.Path(path_type=Path), help="Write a page with scores and curves.")
@option("compare", is_flag=True, help="Show the dataset's earlier runs on the page too.")
@console.as_json
def train_(as_json: bool, **given: Any) -> None:
    """Train MODEL on features in a store and labels in it (see --labels_from), and keep what came of it.

    A trial draws its hyper-parameters from MERTools' lists; all trials share one set of loaded features,
    the folds, the order of samples and the dropout, and are trained as one where their sizes agree. Results
    are views: mer2023/result@attention/RUN, and predictions by sample beside it. Options have MERTools'
    names.

    For AffectGPT: merstore train affectgpt --help.
    """
    given["model"] = _model(given.pop("name"), given["model"])
    _refuse(given)
    try:
        from merstore.run.training import Options, train
        from merstore.run.training.hyperparameters import draw, grid, lists
    except ModuleNotFoundError as missing:
        told = f"{missing.name} is not installed: pip install 'merstore[torch]'"
        raise click.ClickException(told) from None
    options = Options(
        model=given["model"],
        keep_weights=given["savemodel"],
        device=_device(given["gpu"]),
        **{
            name: given[name]
            for name in (
                "feat_type",
                "epochs",
                "batch_size",
                "l2",
                "folds",
                "seed",
                "shuffle",
                "jobs",
            )
        },
    )
    fixed = {
        name: given[name]
        for name in ("hidden_dim", "dropout", "grad_clip", "lr")
        if given[name] is not None
    }
    choices = lists(options.model, fixed, given["hyper_path"])
    hypers = grid(choices) if given["grid"] else draw(choices, given["trials"], options.seed)
    with open_store(given["store"]) as store:
        problem = _problem(store, given)
    for note in problem.notes:
        console.note(f"note: {note}")
    with console.progress("training", "epochs") as bar:
        run = train(problem, options, hypers, bar)
    arguments = {name: str(x) if isinstance(x, Path) else x for name, x in given.items()}
    path = _keep(run, arguments, given)
    _write(run, arguments, given)
    results = _results(run, arguments, given, path)
    if given["html"] is not None:
        from merstore import pages
        from merstore.run.training.comparison import html

        pages.write(given["html"], html(results))
        console.note(f"written: {given['html']}")
    if as_json:
        console.json_out({"path": path, "rows": [row.__dict__ for row in results[-1].rows]})
    else:
        _print(run)


def _model(name: str | None, model: str | None) -> str:
    from merstore.models.baselines import MODELS

    if name and model and name != model:
        raise click.UsageError(f"MODEL {name} and --model {model}: give one of them")
    found = (name or model or "").replace("-", "_")
    if found not in MODELS:
        raise click.UsageError(f"MODEL {found!r}: one of {', '.join(MODELS)}")
    return found


def _refuse(given: dict[str, Any]) -> None:
    """What does not go together, or is not there."""
    across = given["train_dataset"], given["test_dataset"]
    if any(across) != all(across) or bool(given["dataset"]) == all(across):
        raise click.UsageError("--dataset, or both --train_dataset and --test_dataset")
    if given["e2e_name"] or given["e2e_dim"]:
        raise click.UsageError("--e2e_name: baselines train on features, not on media")
    if given["lr_adjust"] != "case1":
        raise click.UsageError("--lr_adjust case1 (a constant rate) is the only one there is")
    features = [given[f"{role}_feature"] for role in ROLES]
    if (given["model"] == "attention_topn") != bool(given["fusion_topn"]):
        raise click.UsageError("attention_topn and --fusion_topn go together")
    if bool(given["fusion_topn"]) == any(features):
        raise click.UsageError("--audio_feature, --text_feature, --video_feature, or --fusion_topn")


def _device(gpu: int) -> str:
    import torch

    if gpu < 0 or not torch.cuda.is_available():
        return "cpu"
    if gpu >= torch.cuda.device_count():
        raise click.UsageError(f"--gpu {gpu}: there are {torch.cuda.device_count()}")
    return f"cuda:{gpu}"


def _problem(store: "Store", given: dict[str, Any]) -> "Problem":
    from merstore.models.baselines.blocks import ROLES as KEYS
    from merstore.run.training import ranks
    from merstore.run.training.inputs import load
    from merstore.run.training.task import across, find_labels, task_of

    def task(dataset: str) -> Any:
        found = find_labels(store, dataset, given["labels_from"], given["labels"])
        return task_of(found, dataset, debug=given["debug"])

    made = task(given["dataset"] or given["train_dataset"])
    if given["train_dataset"]:
        made = across(made, task(given["test_dataset"]))
    if given["n_classes"] not in (None, len(made.classes)):
        raise click.UsageError(
            f"--n_classes {given['n_classes']}: the labels have {len(made.classes)}"
        )
    if given["fusion_topn"]:
        name = given["ranks"] or (made.name if made.name in ranks.LISTS else "MER2024")
        if name == "results":
            known = ranks.computed(store, made.dataset)
        elif name in ranks.LISTS:
            known = ranks.LISTS[name]
        else:
            raise click.UsageError(f"--ranks {name}: results, {', '.join(ranks.LISTS)}")
        bases = ranks.top(known, given["fusion_topn"], given["fusion_modality"])
        paths = ranks.folders(store, made.dataset, bases)
        folders = [path.partition("/")[2] for path in paths]
        keys = tuple(f"feat{number}" for number in range(len(folders)))
    else:
        known_roles = [given[f"{role}_feature"] for role in ROLES]
        first = next(filter(None, known_roles))
        folders, keys = [folder or first for folder in known_roles], KEYS
    return load(
        store,
        made,
        folders,
        keys,
        **{
            name: given[name]
            for name in ("feat_type", "feat_scale", "train_snr", "test_snr", "on_miss")
        },
    )


def _keep(run: "Run", arguments: dict[str, Any], given: dict[str, Any]) -> str | None:
    if not given["keep"]:
        return None
    from merstore.run.training import results

    with open_store(given["store"], "a") as store:
        path = results.save(store, run, arguments, given["run"])
    console.note(f"kept in {given['store']}: {path}")
    return path


def _write(run: "Run", arguments: dict[str, Any], given: dict[str, Any]) -> None:
    from merstore.run.training import released

    written = []
    if not arguments["dataset"]:
        arguments = {**arguments, "dataset": arguments["test_dataset"]}
    if given["export_npz"]:
        written += released.write(run, arguments, given["save_root"])[-1:]
    if given["savemodel"]:
        written += released.write_weights(run, arguments, given["save_root"])[-1:]
    if given["leaderboard"] is not None:
        written += released.write_leaderboard(run, given["leaderboard"])
    for path in written:
        console.note(f"written: {path}")


def _results(
    run: "Run", arguments: dict[str, Any], given: dict[str, Any], path: str | None
) -> "list[Results]":
    """This run's, last; before it the dataset's earlier ones, with --compare."""
    from merstore.run.training import results

    found = []
    with open_store(given["store"]) as store:
        if given["compare"]:
            earlier = results.runs(store, run.problem.task.dataset)
            found = [results.read(store, each) for each in earlier if each != path]
    return [*found, results.of(run, arguments, path or "not kept")]


def _print(run: "Run") -> None:
    from merstore.run.training import results

    tests = run.problem.tests

    def shown(value: float | None, factor: float = 100) -> str:
        return "-" if value is None else f"{value * factor:.2f}"

    ordered = sorted(run.trials, key=lambda trial: -trial.metric)
    click.echo(
        f"{console.plural(len(run.trials), 'trial')} of {run.options.model} on "
        f"{run.problem.task.name}: {console.plural(len(run.folds), 'fold')} of "
        f"{run.options.epochs} epochs, {console.duration(run.seconds)}"
    )
    console.table(
        ["TRIAL", "METRIC", "F1", "ACC", *(f"{t}-{n}" for t in tests for n in ("F1", "ACC")), "HYPER-PARAMETERS"],
        [
            [
                str(trial.number),
                f"{trial.metric:.4f}",
                shown(trial.cv.get("f1")),
                shown(trial.cv.get("acc")),
                *(
                    "unlabelled" if (score := trial.scores[t]) is None else shown(getattr(score, n))
                    for t in tests
                    for n in ("f1", "acc")
                ),
                " ".join(f"{name}={value:g}" for name, value in trial.hyper.items()),
            ]
            for trial in ordered[:10]
        ],
        right="TRIAL METRIC F1 ACC",
    )  # fmt: skip
    if len(ordered) > 10:
        click.echo(f"and {len(ordered) - 10} more")
    floors = results.floors(run.problem)
    for part in tests:
        if run.best.scores[part] is None:
            click.echo(f"{part} has no labels: predicted, and not scored")
        elif part in floors:
            click.echo(
                f"{part}: the most frequent class alone would have F1 {shown(floors[part]['f1'])}, "
                f"ACC {shown(floors[part]['acc'])}"
            )
