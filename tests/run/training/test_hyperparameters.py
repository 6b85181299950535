"""What is tried."""

from pathlib import Path

import pytest

from merstore.errors import InvalidKey, MerstoreError
from merstore.models.baselines import MODELS
from merstore.run.training.hyperparameters import LISTS, draw, grid, lists


def test_every_model_has_its_lists() -> None:
    assert set(LISTS) == set(MODELS)
    assert LISTS["attention"] == {
        "hidden_dim": (64, 128, 256),
        "dropout": (0.2, 0.3, 0.4, 0.5),
        "grad_clip": (-1.0,),
        "lr": (1e-3, 1e-4),
    }
    assert len(grid(LISTS["attention"])) == 24


def test_draws_are_of_the_lists_seeded_and_reach_everything() -> None:
    choices = lists("mmim", {})
    drawn = draw(choices, 400, seed=5)
    assert drawn == draw(choices, 400, seed=5) != draw(choices, 400, seed=6)
    assert drawn[:10] == draw(choices, 10, seed=5)
    for name, values in choices.items():
        assert {trial[name] for trial in drawn} == set(values)


def test_what_is_given_wins_over_a_file_and_that_over_the_lists(tmp_path: Path) -> None:
    path = tmp_path / "hyper.yaml"
    path.write_text("attention: {hidden_dim: 32, dropout: [0.1, 0.2], lr: 0.01}\n")
    found = lists("attention", {"lr": 0.5}, path)
    assert found == {
        "hidden_dim": (32,), "dropout": (0.1, 0.2), "grad_clip": (-1.0,), "lr": (0.5,),
    }  # fmt: skip
    path.write_text("hidden_dim: 48\n")
    assert lists("attention", {}, path)["hidden_dim"] == (48,)


@pytest.mark.parametrize(
    ("text", "error", "told"),
    [
        ("attention: {width: 3}", InvalidKey, "has no width"),
        ("attention: {lr: fast}", InvalidKey, "lr is a number"),
        ("attention: {lr: []}", InvalidKey, "lr is a number"),
        ("[1]", MerstoreError, "a mapping"),
        ("{", MerstoreError, "no readable YAML"),
    ],
)
def test_a_file_that_is_wrong_is_refused(text: str, error: type, told: str, tmp_path: Path) -> None:
    path = tmp_path / "hyper.yaml"
    path.write_text(text)
    with pytest.raises(error, match=told):
        lists("attention", {}, path)
    with pytest.raises(MerstoreError, match="name a YAML file"):
        lists("attention", {}, tmp_path / "none.yaml")
