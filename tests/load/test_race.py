"""Races: who wins is decided by what was measured, not by a noisy neighbour. All rates here are made up."""

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from merstore.load.race import ROUNDS_TO_SETTLE, ROUNDS_TO_STOP, Race


def run(race: Race[str], rounds: int, rate: Callable[[str, int], float]) -> Race[str]:
    for number in range(rounds):
        if race.settled:
            break
        for candidate in race.round():
            race.add(candidate, rate(candidate, number))
        race.stop_worse()
    return race


def shakes(seed: int, share: float) -> Callable[[], float]:
    draw = np.random.default_rng(seed)
    return lambda: float(1 + share * draw.standard_normal())


def test_the_fastest_wins_and_who_is_clearly_worse_is_stopped_early() -> None:
    rates, noise = {"slow": 50.0, "fair": 90.0, "fast": 100.0}, shakes(0, 0.01)
    race = run(Race(list(rates), len), 30, lambda name, _: rates[name] * noise())
    assert race.winner == "fast"
    assert len(race.rates["slow"]) == ROUNDS_TO_STOP
    assert "its best of 4 rounds is 0.5" in race.stopped["slow"]
    assert race.settled


def test_a_neighbour_in_one_round_stops_nobody_and_chooses_nobody() -> None:
    def rate(name: str, number: int) -> float:
        hit = name == "best" and number in (1, 4)  # it runs at a third, twice
        return {"best": 100.0, "other": 88.0}[name] * (0.3 if hit else 1.0)

    race = run(Race(["other", "best"], len), 12, rate)
    assert race.winner == "best"


def test_a_neighbour_through_whole_rounds_meets_all() -> None:
    def rate(name: str, number: int) -> float:
        return {"best": 100.0, "other": 90.0}[name] * (0.4 if number % 2 else 1.0)

    race = run(Race(["other", "best"], len), 12, rate)
    assert race.winner == "best"
    assert not race.stopped  # with so much noise nobody is clearly worse


def test_those_that_cannot_be_told_apart_have_tied_and_the_simplest_wins() -> None:
    noise = shakes(1, 0.05)
    race = run(Race(["ccc", "a", "bb"], len), 30, lambda name, _: 100 * noise())
    assert race.ties == ["a", "bb", "ccc"]
    assert race.winner == "a"
    assert race.settled
    assert len(race.rates["a"]) == ROUNDS_TO_SETTLE


def test_a_trifle_is_a_tie_however_quiet_the_machine() -> None:
    race = run(Race(["a", "bb"], len), 30, lambda name, _: 100.0 + len(name))
    assert race.winner == "a"


def test_a_few_rounds_prove_nothing() -> None:
    race = run(Race(["a", "bb"], len), 3, lambda name, _: 50.0 * len(name))
    assert race.leader == "bb"
    assert race.winner == "a"
    assert not race.settled


def test_who_runs_for_comparison_neither_leads_nor_stops_others_nor_wins() -> None:
    rates = {"ours": 100.0, "theirs": 200.0, "slow": 20.0}
    race = Race(list(rates), len, lambda name: name == "ours")
    run(race, 30, lambda name, _: rates[name])
    assert (race.leader, race.winner) == ("ours", "ours")
    assert race.running == ["ours", "theirs"]
    assert list(race.stopped) == ["slow"]


def test_who_failed_is_out() -> None:
    race = Race(["a", "bb"], len)
    race.stop("a", "failed: no memory")
    run(race, 9, lambda name, _: 1.0)
    assert race.winner == "bb"
    assert race.stopped == {"a": "failed: no memory"}


def test_each_round_has_all_that_run_in_an_order_of_its_own() -> None:
    race = Race([*"abcdef"], ord)
    rounds = [race.round() for _ in range(20)]
    assert all(sorted(names) == [*"abcdef"] for names in rounds)
    assert len({tuple(names) for names in rounds}) > 10


@given(st.lists(st.lists(st.floats(1, 1e9), min_size=1, max_size=12), min_size=1, max_size=5))
def test_there_is_always_a_winner_and_it_is_among_the_ties(rounds: list[list[float]]) -> None:
    race = Race(range(len(rounds)), lambda number: number)
    for number, rates in enumerate(rounds):
        for rate in rates:
            race.add(number, rate)
    race.stop_worse()
    assert race.leader in race.ties
    assert race.winner == min(race.ties)
    assert race.winner not in race.stopped
