"""Training: the straight line's losses, alone, in a stack and in processes."""

import dataclasses

import numpy as np
import pytest
import torch

from merstore.errors import InvalidKey, MerstoreError
from merstore.models.baselines import MODELS
from merstore.models.baselines.blocks import ROLES
from merstore.run.training import Options, Problem, load, train
from merstore.run.training.baseline import Run, derive
from merstore.run.training.hyperparameters import draw, lists
from merstore.run.training.task import find_labels, task_of
from merstore.store.store import Store

from . import reference_baseline as reference
from .made import FOLDERS, corpus

HYPERS = [
    {"hidden_dim": 16, "dropout": 0.2, "grad_clip": -1.0, "lr": 1e-3},
    {"hidden_dim": 16, "dropout": 0.5, "grad_clip": -1.0, "lr": 1e-4},
    {"hidden_dim": 16, "dropout": 0.5, "grad_clip": 0.02, "lr": 1e-3},
]
OPTIONS = Options("attention", epochs=4, folds=3, seed=11)


def straight(problem: Problem, trial: int, hypers=HYPERS, options=OPTIONS, **how):
    def arrays(part: str) -> list[np.ndarray]:
        return [problem.parts[part].inputs[role].numpy() for role in ROLES]

    samples = problem.samples["train"]
    return reference.train(
        arrays("train"), samples.emos, samples.vals, {name: arrays(name) for name in problem.tests},
        6, hypers[trial], trial, options.seed, options.epochs, options.folds, **how,
    )  # fmt: skip


def losses(run: Run, trial: int) -> np.ndarray:
    return np.array(
        [list(zip(f.train_loss, f.eval_loss, strict=True)) for f in run.trials[trial].folds]
    )


@pytest.mark.parametrize("stack", [True, False], ids=["together", "one by one"])
def test_losses_scores_and_predictions_are_the_straight_lines(
    problem: Problem, stack: bool
) -> None:
    run = train(problem, dataclasses.replace(OPTIONS, stack=stack, jobs=1), HYPERS)
    assert [trial.together for trial in run.trials] == [3 if stack else 1] * 3
    for number, trial in enumerate(run.trials):
        history, scores, predicted = straight(problem, number)
        np.testing.assert_allclose(losses(run, number), history, rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            [trial.cv["f1"], trial.cv["acc"], trial.cv["mse"]], scores, atol=1e-6
        )
        for name, (logits, values) in predicted.items():
            np.testing.assert_allclose(trial.predictions[name][0], logits, atol=1e-5)
            np.testing.assert_allclose(trial.predictions[name][1], values, atol=1e-5)


def test_one_model_alone_has_the_straight_lines_weights_bit_for_bit(problem: Problem) -> None:
    run = train(problem, dataclasses.replace(OPTIONS, stack=False, jobs=1), HYPERS[:1])
    _, _, predicted = straight(problem, 0)
    assert np.array_equal(run.trials[0].predictions["test1"][0], predicted["test1"][0])


def test_sequences_too_are_trained_as_the_straight_line_trains_them(store: Store) -> None:
    rng = np.random.default_rng(0)
    made = corpus(store)
    folders = []
    for role, dim in (("audio", 5), ("text", 6), ("face", 4)):
        view = store.create_view(f"mer2023/{role}@X{role}/FRA", shape=(None, dim))
        view.update(
            {n: rng.normal(size=(rng.integers(1, 30), dim)).astype(np.float32) for n in made}
        )
        folders.append(view.path)
    task = task_of(find_labels(store, "MER2023"), "MER2023")
    problem = load(store, task, folders, ROLES, feat_type="frm_unalign")
    options = dataclasses.replace(OPTIONS, epochs=2, feat_type="frm_unalign", jobs=1)
    run = train(problem, options, HYPERS[:1])
    history, _, _ = straight(problem, 0, options=options, encoder=reference.LSTM)
    np.testing.assert_allclose(losses(run, 0), history, rtol=0, atol=1e-6)


@pytest.mark.parametrize("model", [name for name in MODELS if name != "attention_topn"])
def test_a_trial_has_the_same_losses_in_a_stack_and_alone(problem: Problem, model: str) -> None:
    choices = {name: tuple(values)[:2] for name, values in lists(model, {}).items()}
    hypers = draw(choices | {"hidden_dim": (8,)}, 4, seed=2)
    options = Options(model, epochs=2, folds=2, seed=3, jobs=1)
    together = train(problem, options, hypers)
    alone = train(problem, dataclasses.replace(options, stack=False), hypers)
    for number in range(len(hypers)):
        np.testing.assert_allclose(
            losses(together, number), losses(alone, number), rtol=1e-6, atol=1e-6
        )


def test_a_stack_of_many_inputs_has_the_losses_of_each_alone(store: Store) -> None:
    corpus(store)
    task = task_of(find_labels(store, "MER2023"), "MER2023")
    keys = [f"feat{number}" for number in range(6)]
    problem = load(store, task, [*FOLDERS.values()] * 2, keys)
    options = Options("attention_topn", epochs=2, folds=2, jobs=1)
    together = train(problem, options, HYPERS)
    alone = train(problem, dataclasses.replace(options, stack=False), HYPERS)
    assert together.trials[0].together == 3
    np.testing.assert_allclose(losses(together, 1), losses(alone, 1), atol=1e-6)


def test_over_long_training_the_two_differ_by_rounding_only(problem: Problem) -> None:
    """In float64, where rounding needs many more steps to be seen."""
    torch.set_default_dtype(torch.float64)
    try:
        for rows in problem.parts.values():
            rows.inputs = {key: x.double() for key, x in rows.inputs.items()}
            rows.vals = rows.vals.double()
        options = dataclasses.replace(OPTIONS, epochs=40, folds=2, jobs=1)
        together = train(problem, options, HYPERS)
        alone = train(problem, dataclasses.replace(options, stack=False), HYPERS)
    finally:
        torch.set_default_dtype(torch.float32)
    for number in range(3):
        np.testing.assert_allclose(losses(together, number), losses(alone, number), rtol=1e-9)


@pytest.mark.slow
def test_trials_in_processes_are_those_in_this_one(problem: Problem) -> None:
    options = dataclasses.replace(OPTIONS, stack=False, epochs=2)
    beside = train(problem, dataclasses.replace(options, jobs=2), HYPERS)
    here = train(problem, dataclasses.replace(options, jobs=1), HYPERS)
    for number in range(3):
        assert np.array_equal(losses(beside, number), losses(here, number))


def test_the_same_seed_gives_the_same_run_and_leaves_the_users_alone(problem: Problem) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = (train(problem, OPTIONS, HYPERS[:2]) for _ in range(2))
    assert np.array_equal(losses(first, 1), losses(second, 1))
    assert torch.equal(torch.get_rng_state(), before)
    other = train(problem, dataclasses.replace(OPTIONS, seed=12), HYPERS[:2])
    assert not np.allclose(losses(first, 1), losses(other, 1))


def test_the_best_epoch_is_the_first_with_the_highest_metric(problem: Problem) -> None:
    run = train(problem, OPTIONS, HYPERS)
    for trial in run.trials:
        for fold in trial.folds:
            assert fold.best == int(np.argmax(fold.eval_metric))
            assert fold.score is not None
            assert fold.score.metric("emoval") == fold.eval_metric[fold.best]
    assert run.best.metric == max(trial.metric for trial in run.trials)


def test_it_learns_what_is_in_the_features(problem: Problem) -> None:
    run = train(problem, dataclasses.replace(OPTIONS, epochs=80), HYPERS[:1])
    truth = problem.samples["test1"].emos
    floor = np.bincount(truth).max() / len(truth)
    found = run.best.scores["test1"]
    assert found is not None
    assert found.acc is not None
    assert found.acc > floor + 0.1


def test_every_sample_is_held_out_once_and_predicted_by_a_model_that_had_not_seen_it(
    problem: Problem,
) -> None:
    run = train(problem, OPTIONS, HYPERS[:2])
    assert set(run.held(run.best)) == set(problem.samples["train"].names)


def test_a_split_without_values_is_scored_on_its_classes(problem: Problem) -> None:
    run = train(problem, OPTIONS, HYPERS[:1])
    found = run.best.scores["test3"]
    assert found is not None
    assert (found.n, found.mse) == (20, None)


def test_unlabelled_tests_are_predicted_and_not_scored(store: Store) -> None:
    corpus(store, unlabelled=["test1"], values=False)
    task = task_of(find_labels(store, "mer2023"), "mer2023")
    run = train(load(store, task, [*FOLDERS.values()], ROLES), OPTIONS, HYPERS[:1])
    assert run.best.scores["test1"] is None
    assert run.best.predictions["test1"][0].shape == (30, 6)


def test_the_weights_of_the_best_epochs_are_kept_where_they_are_asked_for(
    problem: Problem,
) -> None:
    options = dataclasses.replace(OPTIONS, keep_weights=True)
    run = train(problem, options, HYPERS[:2])
    (fold, *_), trial = run.trials[1].folds, HYPERS[1]
    model = MODELS["attention"](problem.dims, 6, 1, hidden_dim=16, dropout=trial["dropout"])
    assert fold.weights is not None
    model.load_state_dict({name: torch.from_numpy(x) for name, x in fold.weights.items()})
    logits = model.eval()(problem.parts["test1"].inputs)[1].detach().numpy()
    np.testing.assert_allclose(fold.tests["test1"][0], logits, atol=1e-5)


def test_seeds_are_derived_as_documented() -> None:
    assert derive(3, "init", 1, 2) == reference.derive(3, "init", 1, 2)


@pytest.mark.parametrize(
    ("options", "hypers", "error", "told"),
    [
        (dataclasses.replace(OPTIONS, model="nn"), HYPERS, InvalidKey, "no model 'nn'"),
        (OPTIONS, [], MerstoreError, "a trial"),
        (dataclasses.replace(OPTIONS, epochs=0), HYPERS, MerstoreError, "an epoch"),
        (dataclasses.replace(OPTIONS, folds=91), HYPERS, MerstoreError, "90 samples make no 91"),
        (OPTIONS, [HYPERS[0] | {"lr": 1e30}], MerstoreError, "no number any more"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    problem: Problem, options: Options, hypers: list, error: type, told: str
) -> None:
    with pytest.raises(error, match=told):
        train(problem, options, hypers)
