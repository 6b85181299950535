"""The orders of an epoch: who gets which rows, and that they go on anywhere just as they would have."""

import itertools
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from merstore.errors import MerstoreError
from merstore.load.samplers import BatchOrder, BucketOrder, RowOrder, TokenOrder

Batches = list[list[int]]


def lengths_of(count: int) -> np.ndarray:
    """Lengths 0 to 20, some missing; the same for the same count."""
    return np.random.default_rng(count).integers(0, 21, count) * (np.arange(count) % 7 != 3)


# Every order, by (count, batch size); each row comes once in it, except where rows are drawn.
DEALING_ROWS: dict[str, Callable[..., BatchOrder]] = {
    "in order": lambda count, size, **share: RowOrder(count, size, **share),
    "shuffled": lambda count, size, **share: RowOrder(count, size, True, **share),
    "blocks": lambda count, size, **share: RowOrder(
        count, size, "blocks", block=3, group=2, **share
    ),
}
DEALING_BATCHES: dict[str, Callable[..., BatchOrder]] = {
    "buckets": lambda count, size, **share: BucketOrder(lengths_of(count), size, window=3, **share),
    "sorted": lambda count, size, **share: BucketOrder(
        lengths_of(count), size, shuffle=False, **share
    ),
    "tokens": lambda count, size, **share: TokenOrder(
        lengths_of(count), 20 * size, 2 * size, window=3, **share
    ),
}
DRAWING: dict[str, Callable[..., BatchOrder]] = {
    "drawn": lambda count, size, **share: RowOrder(
        count, size, weights=np.arange(1, count + 1), draws=count + 3, **share
    ),
}
ONCE = DEALING_ROWS | DEALING_BATCHES
ALL = ONCE | DRAWING

counts, sizes, worlds = st.integers(1, 60), st.integers(1, 9), st.integers(1, 5)


def epoch_of(order: BatchOrder) -> Batches:
    return [batch.tolist() for batch in order]


def ranks_of(make: Callable[..., BatchOrder], world: int, **share: Any) -> list[Batches]:
    orders = [make(rank=rank, world_size=world, **share) for rank in range(world)]
    epochs = [epoch_of(order) for order in orders]
    for order, epoch in zip(orders, epochs, strict=True):
        order.set_epoch(0)
        assert len(order) == len(epoch)
    return epochs


def flat(batches: Any) -> list[int]:
    return list(itertools.chain.from_iterable(batches))


def passed_on(state: dict[str, Any]) -> Any:
    """The state as a checkpoint keeps it."""
    text = json.dumps(state)
    assert len(text) < 500
    assert json.loads(text) == state == pickle.loads(pickle.dumps(state))
    return json.loads(text)


# How an epoch is dealt out


@pytest.mark.parametrize("kind", ONCE)
@given(count=counts, size=sizes, world=worlds)
def test_uneven_ranks_get_every_row_exactly_once(
    kind: str, count: int, size: int, world: int
) -> None:
    ranks = ranks_of(lambda **share: ONCE[kind](count, size, **share), world, uneven=True)
    assert sorted(flat(flat(ranks))) == list(range(count))
    assert max(map(len, ranks)) - min(map(len, ranks)) <= 1
    assert len(ranks[0]) == max(map(len, ranks))


@pytest.mark.parametrize("kind", DEALING_ROWS)
@given(count=counts, size=sizes, world=worlds)
def test_by_default_ranks_get_equally_many_batches_of_equal_size_and_no_row_more_than_needed(
    kind: str, count: int, size: int, world: int
) -> None:
    ranks = ranks_of(lambda **share: DEALING_ROWS[kind](count, size, **share), world)
    assert len({tuple(map(len, batches)) for batches in ranks}) == 1
    rows = Counter(flat(flat(ranks)))
    assert set(rows) == set(range(count))
    assert max(rows.values()) - min(rows.values()) <= 1
    assert rows.total() - count < world
    assert all(len(batch) == size for batch in ranks[0][:-1])


@pytest.mark.parametrize("kind", DEALING_BATCHES)
@given(count=counts, size=sizes, world=worlds)
def test_batches_of_similar_length_are_repeated_only_to_go_round(
    kind: str, count: int, size: int, world: int
) -> None:
    alone = epoch_of(DEALING_BATCHES[kind](count, size))
    ranks = ranks_of(lambda **share: DEALING_BATCHES[kind](count, size, **share), world)
    assert len(set(map(len, ranks))) == 1
    dealt = flat(zip(*ranks, strict=True))
    assert dealt[: len(alone)] == alone
    assert dealt[len(alone) :] == (alone * world)[: len(dealt) - len(alone)]
    assert len(dealt) - len(alone) < world


@pytest.mark.parametrize("kind", ONCE)
@given(count=counts, size=sizes, world=worlds)
def test_drop_last_leaves_out_the_last_step_and_repeats_nothing(
    kind: str, count: int, size: int, world: int
) -> None:
    def make(**share: Any) -> BatchOrder:
        return ONCE[kind](count, size, **share)

    whole = epoch_of(make())
    full = [batch for batch in whole if len(batch) == size or kind == "tokens"]
    if len(full) < world:
        with pytest.raises(MerstoreError, match="drop_last leaves nothing"):
            make(world_size=world, drop_last=True)
        return
    ranks = ranks_of(make, world, drop_last=True)
    assert {len(batches) for batches in ranks} == {len(full) // world}
    dealt = flat(zip(*ranks, strict=True))
    assert set(map(len, dealt)) <= set(map(len, full))
    assert sorted(flat(dealt)) == sorted(flat(full[: len(full) // world * world]))


@given(count=counts, size=sizes, world=worlds)
def test_a_step_of_all_ranks_is_the_next_slice_of_the_order(
    count: int, size: int, world: int
) -> None:
    def make(**share: Any) -> BatchOrder:
        return RowOrder(count, size, True, **share)

    order = flat(epoch_of(make()))
    steps = itertools.zip_longest(*ranks_of(make, world, uneven=True), fillvalue=[])
    for k, step in enumerate(steps):
        part = order[k * size * world : (k + 1) * size * world]
        assert list(step) == [part[rank::world] for rank in range(world)]


def test_without_shuffle_rows_come_in_order_and_the_last_batch_is_short() -> None:
    assert epoch_of(RowOrder(7, 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert epoch_of(RowOrder(7, 3, drop_last=True)) == [[0, 1, 2], [3, 4, 5]]
    assert epoch_of(RowOrder(7, 3, world_size=2, rank=1)) == [[1, 3, 5], [0]]
    assert epoch_of(RowOrder(7, 100)) == [[0, 1, 2, 3, 4, 5, 6]]
    assert epoch_of(RowOrder(1, 2, world_size=3, rank=2)) == [[0]]
    assert epoch_of(RowOrder(1, 2, world_size=3, rank=2, uneven=True)) == []


@pytest.mark.parametrize("kind", ALL)
def test_batches_are_int64_arrays_of_their_own(kind: str) -> None:
    order = ALL[kind](20, 4)
    kept = []
    for batch in order:
        assert batch.dtype == np.int64
        assert batch.ndim == 1
        kept.append(batch.tolist())
        batch[:] = -1
    order.set_epoch(0)
    assert epoch_of(order) == kept


# What an epoch depends on


GOLDEN: dict[str, tuple[Callable[[], BatchOrder], Batches, Batches]] = {
    "shuffled": (
        lambda: RowOrder(10, 4, True, seed=7),
        [[1, 8, 6, 5], [9, 2, 4, 7], [0, 3]],
        [[1, 4, 9, 3], [2, 6, 5, 8], [0, 7]],
    ),
    "blocks": (
        lambda: RowOrder(10, 4, "blocks", block=2, group=2, seed=7),
        [[3, 4, 5, 2], [1, 0, 9, 8], [7, 6]],
        [[3, 9, 8, 2], [5, 4, 6, 7], [1, 0]],
    ),
    "drawn": (
        lambda: RowOrder(4, 4, weights=[1, 0, 2, 5], draws=8, seed=7),
        [[3, 0, 3, 3], [3, 2, 0, 3]],
        [[3, 0, 2, 2], [0, 3, 2, 3]],
    ),
    "buckets": (
        lambda: BucketOrder([5, 0, 3, 9, 1, 7, 2, 2, 8, 4, 6, 3], 3, window=2, seed=7),
        [[8, 5, 10], [3, 0, 2], [11, 7, 4], [9, 6, 1]],
        [[11, 6, 7], [8, 5, 0], [2, 4, 1], [3, 10, 9]],
    ),
    "tokens": (
        lambda: TokenOrder([5, 0, 3, 9, 1, 7, 2, 2, 8, 4, 6, 3], 12, window=2, seed=7),
        [[7], [8], [6, 1], [3], [10, 9], [2, 4], [0, 11], [5]],
        [[0, 7], [2, 11, 6], [5], [3], [4, 1], [10, 9], [8]],
    ),
}


@pytest.mark.parametrize("kind", GOLDEN)
def test_an_order_is_the_same_for_ever(kind: str) -> None:
    """A change here breaks every checkpoint that is kept: give the state another version."""
    make, first, second = GOLDEN[kind]
    order = make()
    assert epoch_of(order) == first
    assert epoch_of(order) == second


def test_the_digests_of_a_state_are_the_same_for_ever() -> None:
    assert RowOrder(4, 4, weights=[1, 0, 2, 5], draws=8, seed=7).state_dict(1) == {
        "version": 1,
        "kind": "RowOrder",
        "settings": {"count": 4, "weights": "9c1edce1b6b952b0", "draws": 8, "seed": 7},
        "epoch": 0,
        "position": 4,
    }
    settings = GOLDEN["tokens"][0]().state_dict(0)["settings"]
    assert settings["lengths"] == "905ac9e94913e792"


def test_every_process_makes_the_same_order() -> None:
    code = (
        "from merstore.load.samplers import *\n"
        "import json, numpy as np\n"
        "orders = [RowOrder(50, 8, True, seed=3), BucketOrder(np.arange(50) % 9, 8, seed=3)]\n"
        "print(json.dumps([[batch.tolist() for batch in order] for order in orders]))"
    )
    here = [RowOrder(50, 8, True, seed=3), BucketOrder(np.arange(50) % 9, 8, seed=3)]
    out = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONHASHSEED": "12345"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(out.stdout) == [epoch_of(order) for order in here]


@pytest.mark.parametrize("kind", ["shuffled", "blocks", "drawn", "buckets", "tokens"])
def test_epochs_and_seeds_differ(kind: str) -> None:
    order = ALL[kind](60, 4)
    epochs = [epoch_of(order), epoch_of(order), epoch_of(ALL[kind](60, 4, seed=1))]
    assert epochs[0] != epochs[1]
    assert epochs[0] != epochs[2]
    assert epochs[1] != epochs[2]


def test_a_permutation_favours_no_place() -> None:
    firsts = Counter()
    for epoch in range(4000):
        order = RowOrder(8, 8, True)
        order.set_epoch(epoch)
        firsts[int(next(iter(order))[0])] += 1
    assert all(abs(firsts[row] - 500) < 5 * 500**0.5 for row in range(8))


def test_blocks_keep_neighbours_together_and_mix_within_a_group() -> None:
    count, block, group = 1000, 10, 4
    rows = flat(RowOrder(count, 7, "blocks", block=block, group=group))
    assert sorted(rows) == list(range(count))
    groups = [rows[at : at + block * group] for at in range(0, count, block * group)]
    assert all(len({row // block for row in rows}) == group for rows in groups)
    assert all(rows != sorted(rows) for rows in groups)
    blocks = [row // block for row in rows[:: block * group]]
    assert blocks != sorted(blocks)


def test_blocks_larger_than_the_dataset_are_a_plain_shuffle() -> None:
    rows = flat(RowOrder(50, 8, "blocks"))
    assert sorted(rows) == list(range(50)) != rows


def test_rows_are_drawn_in_proportion_to_their_weights() -> None:
    weights = np.array([0, 1, 0, 3, 6, 0], float)
    drawn = Counter(flat(RowOrder(6, 100, weights=weights, draws=10_000)))
    assert set(drawn) == {1, 3, 4}
    for row, share in ((1, 0.1), (3, 0.3), (4, 0.6)):
        assert abs(drawn[row] - 10_000 * share) < 5 * (10_000 * share * (1 - share)) ** 0.5
    assert len(flat(RowOrder(6, 4, weights=weights))) == 6
    huge = RowOrder(3, 5, weights=[1e308, 1e308, 0], draws=50)
    assert set(flat(huge)) == {0, 1}


# Lengths


def padded(batches: Any, lengths: np.ndarray) -> int:
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches)


def test_buckets_pad_little() -> None:
    lengths = np.random.default_rng(0).integers(20, 600, 3200)
    plain = padded(RowOrder(len(lengths), 32, True), lengths) - lengths.sum()
    bucketed = padded(BucketOrder(lengths, 32), lengths) - lengths.sum()
    assert bucketed < plain / 10
    narrow = padded(BucketOrder(lengths, 32, window=4), lengths) - lengths.sum()
    assert bucketed < narrow < plain


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=80),
    size=sizes,
    window=st.integers(1, 4),
)
def test_buckets_are_full_but_the_last_and_sorted_within_their_window(
    lengths: list[int], size: int, window: int
) -> None:
    batches = epoch_of(BucketOrder(lengths, size, shuffle=False, window=window))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    for batch in batches[: len(lengths) // size]:
        assert [lengths[row] for row in batch] == sorted(
            (lengths[row] for row in batch), reverse=True
        )
        assert len({row // (size * window) for row in batch}) == 1


def test_the_rows_that_drop_last_leaves_out_are_of_any_length() -> None:
    lengths = np.arange(103)
    order = BucketOrder(lengths, 10, drop_last=True)
    left_out = [set(range(103)) - set(flat(order)) for _ in range(30)]
    assert all(len(rows) == 3 for rows in left_out)
    assert min(map(min, left_out)) < 20
    assert max(map(max, left_out)) > 80


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=80),
    max_tokens=st.integers(1, 90),
    max_batch=st.none() | st.integers(1, 5),
    shuffle=st.booleans(),
    window=st.integers(1, 4),
)
def test_a_batch_never_holds_more_than_its_tokens(
    lengths: list[int], max_tokens: int, max_batch: int | None, shuffle: bool, window: int
) -> None:
    order = TokenOrder(lengths, max_tokens, max_batch, shuffle, window=window, oversize="alone")
    batches = epoch_of(order)
    assert sorted(flat(batches)) == list(range(len(lengths)))
    for batch in batches:
        longest = max(max(lengths[row] for row in batch), 1)
        assert len(batch) * longest <= max_tokens or len(batch) == 1
        assert max_batch is None or len(batch) <= max_batch


def test_as_many_rows_as_fit() -> None:
    order = TokenOrder([4] * 10, 12, shuffle=False)
    assert epoch_of(order) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert epoch_of(TokenOrder([0] * 10, 4, shuffle=False)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    lengths = np.random.default_rng(0).integers(20, 600, 3000)
    batches = epoch_of(TokenOrder(lengths, 16_384))
    assert lengths.sum() > 0.9 * 16_384 * len(batches)


def test_a_row_that_fits_no_batch_is_named_or_goes_alone() -> None:
    with pytest.raises(MerstoreError, match=r'row 1 has length 13, .*12.* 1 others.*"alone"'):
        TokenOrder([4, 13, 4, 14], 12)
    assert [1] in epoch_of(TokenOrder([4, 13, 4], 12, oversize="alone"))
    with pytest.raises(MerstoreError, match="oversize"):
        TokenOrder([4], 12, oversize="drop")  # type: ignore[arg-type]


# Epochs


def test_every_iteration_is_of_the_next_epoch() -> None:
    def numbered(epoch: int) -> Batches:
        order = RowOrder(20, 4, True)
        order.set_epoch(epoch)
        return epoch_of(order)

    order = RowOrder(20, 4, True)
    assert order.epoch == 0
    assert [epoch_of(order) for _ in range(3)] == [numbered(epoch) for epoch in range(3)]
    assert order.epoch == 3
    broken_off = list(itertools.islice(order, 2))
    assert [batch.tolist() for batch in broken_off] == numbered(3)[:2]
    assert epoch_of(order) == numbered(4)
    order.set_epoch(1)
    assert epoch_of(order) == numbered(1)
    list(itertools.islice(order, len(order)))
    order.set_epoch(2)
    assert epoch_of(order) == numbered(2)


def test_an_iterator_that_is_not_used_costs_no_epoch_and_no_position() -> None:
    whole = epoch_of(RowOrder(20, 4, True))
    order = RowOrder(20, 4, True)
    iter(order)
    assert epoch_of(order) == whole
    order.load_state_dict(order.state_dict(0) | {"epoch": 0, "position": 8})
    iter(order)
    assert epoch_of(order) == whole[2:]


def test_an_iterator_that_was_left_behind_does_not_move_the_epoch() -> None:
    expected = RowOrder(20, 4, True)
    expected.set_epoch(7)
    order = RowOrder(20, 4, True)
    left = iter(order)
    next(left)
    order.set_epoch(7)
    next(left)
    assert epoch_of(order) == epoch_of(expected)
    list(left)
    assert order.epoch == 8


def test_two_iterators_at_once_are_of_the_same_epoch() -> None:
    order = RowOrder(20, 4, True)
    assert all(np.array_equal(a, b) for a, b in zip(order, order, strict=True))
    assert order.epoch == 1


@pytest.mark.parametrize("kind", ALL)
def test_set_epoch_of_a_trainer_keeps_the_position_that_was_loaded(kind: str) -> None:
    whole = ALL[kind](30, 4)
    state = whole.state_dict(3)
    batches, following = epoch_of(whole), epoch_of(whole)
    order = ALL[kind](30, 4)
    order.load_state_dict(state)
    order.set_epoch(0)
    assert epoch_of(order) == batches[3:]
    order.set_epoch(1)
    assert epoch_of(order) == following
    order.load_state_dict(state)
    order.set_epoch(1)
    assert epoch_of(order) == following


def test_the_number_of_batches_by_tokens_is_that_of_the_present_epoch() -> None:
    lengths = np.random.default_rng(0).integers(0, 50, 400)
    order = TokenOrder(lengths, 100, window=2)
    told, counted = [], []
    for _ in range(10):
        told.append(len(order))
        counted.append(len(epoch_of(order)))
    assert told == counted
    assert len(set(told)) > 1


# Resuming


SHARES = [{}, {"drop_last": True}, {"uneven": True}]


@pytest.mark.parametrize("share", SHARES, ids=str)
@pytest.mark.parametrize("kind", ALL)
@given(data=st.data(), count=st.integers(24, 30), size=st.integers(2, 4), world=st.integers(1, 3))
def test_resuming_anywhere_goes_on_as_if_nothing_had_happened(
    kind: str, share: dict[str, Any], data: st.DataObject, count: int, size: int, world: int
) -> None:
    rank = data.draw(st.integers(0, world - 1), "rank")

    def make() -> BatchOrder:
        return ALL[kind](count, size, seed=5, rank=rank, world_size=world, **share)

    straight = make()
    expected = flat([epoch_of(straight) for _ in range(3)])
    again = make()
    first = epoch_of(again)
    for taken in range(len(first) + 1):
        order = make()
        order.load_state_dict(passed_on(again.state_dict(taken)))
        twice = make()
        twice.load_state_dict(passed_on(order.state_dict(0)))
        order = pickle.loads(pickle.dumps(twice))
        ended = taken == len(first)
        assert order.epoch == ended
        assert flat([epoch_of(order) for _ in range(3 - ended)]) == expected[taken:]
        assert order.epoch == 3


@pytest.mark.parametrize("kind", ALL)
def test_a_state_may_be_asked_for_at_any_time_however_far_ahead_the_iterator_is(kind: str) -> None:
    order = ALL[kind](40, 4)
    following = iter(order)
    before = [order.state_dict(taken) for taken in range(4)]
    assert order.state_dict(0) == ALL[kind](40, 4).state_dict(0)
    list(following)
    assert [order.state_dict(taken) for taken in range(4)] == before


@pytest.mark.parametrize("kind", DEALING_ROWS)
@given(
    count=counts, legs=st.lists(st.tuples(sizes, worlds), min_size=2, max_size=4), data=st.data()
)
def test_other_ranks_with_other_batches_get_what_is_left_exactly_once(
    kind: str, count: int, legs: list[tuple[int, int]], data: st.DataObject
) -> None:
    state = DEALING_ROWS[kind](count, 1).state_dict(0)
    seen: list[int] = []
    for size, world in legs:
        orders = [
            DEALING_ROWS[kind](count, size, rank=rank, world_size=world, uneven=True)
            for rank in range(world)
        ]
        for order in orders:
            order.load_state_dict(passed_on(state))
        if orders[0].epoch == 1:
            assert sorted(seen) == list(range(count))
            break
        ranks = [epoch_of(order) for order in orders]
        assert sorted(seen + flat(flat(ranks))) == list(range(count))
        taken = data.draw(st.integers(0, len(ranks[0])), "batches")
        seen += flat(flat(batches[:taken] for batches in ranks))
        state = orders[0].state_dict(taken)


@pytest.mark.parametrize("kind", DEALING_BATCHES)
@given(count=counts, size=sizes, world=worlds, after=worlds, data=st.data())
def test_other_ranks_get_the_batches_that_are_left_exactly_once(
    kind: str, count: int, size: int, world: int, after: int, data: st.DataObject
) -> None:
    def make(rank: int, world: int) -> BatchOrder:
        return DEALING_BATCHES[kind](count, size, rank=rank, world_size=world, uneven=True)

    orders = [make(rank, world) for rank in range(world)]
    ranks = [epoch_of(order) for order in orders]
    taken = data.draw(st.integers(0, len(ranks[0]) - 1), "batches")
    seen = flat(flat(batches[:taken] for batches in ranks))
    for rank in range(after):
        order = make(rank, after)
        order.load_state_dict(passed_on(orders[0].state_dict(taken)))
        seen += flat(epoch_of(order))
    assert sorted(seen) == list(range(count))


@pytest.mark.parametrize("kind", ALL)
def test_a_state_may_be_loaded_in_the_middle_of_an_epoch(kind: str) -> None:
    order = ALL[kind](40, 4)
    expected = epoch_of(ALL[kind](40, 4))
    batches = iter(order)
    state = order.state_dict(2)
    for _ in range(5):
        next(batches)
    order.load_state_dict(state)
    assert order.state_dict(0) == state
    assert epoch_of(order) == expected[2:]


def test_what_drop_last_would_leave_out_after_a_resume_ends_the_epoch() -> None:
    state = RowOrder(10, 3).state_dict(2)
    order = RowOrder(10, 5, drop_last=True)
    order.load_state_dict(state)
    assert order.epoch == 1
    assert len(epoch_of(order)) == 2


@pytest.mark.parametrize("kind", ALL)
def test_a_state_is_small_and_json(kind: str) -> None:
    order = ALL[kind](60, 4, seed=2**64 - 1)
    order.set_epoch(2**62 - 1)
    passed_on(order.state_dict(5))
    order = RowOrder(2**61, 2**60, "blocks", block=2**60, group=2**60, seed=2**64 - 1)
    order.set_epoch(2**62 - 1)
    passed_on(order.state_dict(1))


BASE = RowOrder(20, 4, True)
OTHERS: dict[str, tuple[BatchOrder, BatchOrder, str]] = {
    "rows": (BASE, RowOrder(21, 4, True), "count is 20 in the state and 21 here"),
    "shuffle": (BASE, RowOrder(20, 4), "shuffle is True in the state and False here"),
    "seed": (BASE, RowOrder(20, 4, True, seed=9), "seed is 0 in the state and 9 here"),
    "kind": (BASE, BucketOrder([1] * 20, 4), "kind is 'RowOrder' in the state and 'BucketOrder'"),
    "block": (
        RowOrder(20, 4, "blocks", block=2),
        RowOrder(20, 4, "blocks", block=3),
        "block is 2 in the state and 3 here",
    ),
    "weights": (
        RowOrder(2, 4, weights=[1, 2]),
        RowOrder(2, 4, weights=[1, 3]),
        "weights is '[0-9a-f]{16}' in the state and '[0-9a-f]{16}' here",
    ),
    "lengths": (
        TokenOrder([1, 2], 4),
        TokenOrder([2, 1], 4),
        "lengths is '[0-9a-f]{16}' in the state and '[0-9a-f]{16}' here",
    ),
    "batch size of buckets": (
        BucketOrder([1, 2], 4),
        BucketOrder([1, 2], 5),
        "batch_size is 4 in the state and 5 here",
    ),
    "tokens": (TokenOrder([1, 2], 4), TokenOrder([1, 2], 5), "max_tokens is 4 .* 5 here"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_state_of_another_order_is_refused_and_says_what_differs(what: str) -> None:
    theirs, ours, message = OTHERS[what]
    with pytest.raises(MerstoreError, match=message):
        ours.load_state_dict(theirs.state_dict(1))


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ({"version": 2}, "version is 2 in the state and 1 here"),
        ({"version": "1"}, "version is '1' in the state and 1 here"),
        ({"kind": None}, "kind is None in the state and 'RowOrder' here"),
        ({"settings": None}, "no state of a RowOrder"),
        ({"settings": "count"}, "no state of a RowOrder"),
        ({"settings": {}}, "count is None in the state and 20 here"),
        ({"settings": {"count": np.arange(3)}}, "count is array"),
        ({"epoch": "3"}, "the state's epoch is an integer, .*, not '3'"),
        ({"epoch": -1}, "the state's epoch .* -1"),
        ({"epoch": True}, "the state's epoch .* True"),
        ({"position": 1.5}, "the state's position .* 1.5"),
        ({"position": -4}, "the state's position .* -4"),
        ({"position": None}, "the state's position .* None"),
        ({"position": 21}, "position 21 in an epoch of 20"),
    ],
    ids=str,
)
def test_a_damaged_state_is_refused_and_changes_nothing(
    damaged: dict[str, Any], message: str
) -> None:
    order = RowOrder(20, 4, True)
    order.load_state_dict(order.state_dict(2))
    state = order.state_dict(0)
    with pytest.raises(MerstoreError, match=message):
        order.load_state_dict(state | damaged)
    assert order.state_dict(0) == state


@pytest.mark.parametrize("state", [None, 3, "state", [], {}, {"version": 1}], ids=repr)
def test_what_is_no_state_is_refused(state: Any) -> None:
    with pytest.raises(MerstoreError, match="no state of a RowOrder"):
        RowOrder(20, 4).load_state_dict(state)


@pytest.mark.parametrize("batches", [-1, 6, 1.0, True, None])
def test_more_batches_than_there_are_were_not_consumed(batches: Any) -> None:
    with pytest.raises(MerstoreError, match="batches"):
        RowOrder(20, 4).state_dict(batches)


# Bad settings


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RowOrder(0, 4), "an empty dataset"),
        (lambda: RowOrder(-1, 4), "count is an integer"),
        (lambda: BucketOrder([], 4), "an empty dataset"),
        (lambda: TokenOrder([], 4), "an empty dataset"),
        (lambda: RowOrder(9, 0), r"batch_size is an integer, 1 to .* not 0"),
        (lambda: RowOrder(9, 2.5), "batch_size .* not 2.5"),  # type: ignore[arg-type]
        (lambda: RowOrder(9, True), "batch_size .* not True"),
        (lambda: BucketOrder([1], -3), "batch_size .* not -3"),
        (lambda: BucketOrder([1], 1, window=0), "window .* not 0"),
        (lambda: TokenOrder([1], 0), "max_tokens .* not 0"),
        (lambda: TokenOrder([1], 4, 0), "max_batch .* not 0"),
        (lambda: RowOrder(9, 2, seed=-1), "seed .* not -1"),
        (lambda: RowOrder(9, 2, seed=2**64), "seed .* not 18446744073709551616"),
        (lambda: RowOrder(9, 2, world_size=0), "world_size .* not 0"),
        (lambda: RowOrder(9, 2, rank=2, world_size=2), "rank 2 of world_size 2"),
        (lambda: RowOrder(9, 2, rank=-1), "rank .* not -1"),
        (lambda: RowOrder(9, 2, drop_last=True, uneven=True), "choose one"),
        (lambda: RowOrder(9, 10, drop_last=True), "nothing: .* 1 ranks takes 10 rows.* are 9"),
        (lambda: RowOrder(9, 2, "block"), "shuffle is True or False or 'blocks', not 'block'"),  # type: ignore[arg-type]
        (lambda: BucketOrder([1], 2, "blocks"), "shuffle is True or False, not 'blocks'"),  # type: ignore[arg-type]
        (lambda: RowOrder(9, 2, "blocks", block=0), "block .* not 0"),
        (lambda: RowOrder(9, 2, "blocks", group=0), "group .* not 0"),
        (lambda: RowOrder(9, 2, draws=3), "draws is for weights"),
        (lambda: RowOrder(2, 2, weights=[1, 2], draws=0), "draws .* not 0"),
        (lambda: RowOrder(2, 2, "blocks", weights=[1, 2]), "leave out shuffle"),
        (lambda: RowOrder(3, 2, weights=[1, 2]), r"shape \[2\] for 3 rows"),
        (lambda: RowOrder(2, 2, weights=[[1, 2]]), r"shape \[1, 2\] for 2 rows"),
        (lambda: RowOrder(3, 2, weights=[1, 2, -1]), "row 2 has weight -1.0"),
        (lambda: RowOrder(3, 2, weights=[1, np.nan, 2]), "row 1 has weight nan"),
        (lambda: RowOrder(3, 2, weights=[np.inf, 1, 2]), "row 0 has weight inf"),
        (lambda: RowOrder(2, 2, weights=[0, 0]), "all weights are 0"),
        (lambda: BucketOrder([3, -1], 2), "row 1 has length -1"),
        (lambda: BucketOrder([3.0, 1.0], 2), "lengths are integers"),
        (lambda: TokenOrder([[3, 1]], 2), "lengths are integers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    make: Callable[[], BatchOrder], message: str
) -> None:
    with pytest.raises(MerstoreError, match=message):
        make()


def test_an_epoch_that_does_not_exist_is_refused() -> None:
    with pytest.raises(MerstoreError, match="epoch is an integer"):
        RowOrder(9, 2).set_epoch(-1)


def test_numbers_of_numpy_are_as_good_as_others() -> None:
    order = RowOrder(np.int64(9), np.int32(2), np.bool_(True), seed=np.uint64(3))  # type: ignore[arg-type]
    passed_on(order.state_dict(1))
    assert epoch_of(order) == epoch_of(RowOrder(9, 2, True, seed=3))


def test_lengths_are_kept_as_they_were_given() -> None:
    lengths = lengths_of(40)
    order = BucketOrder(lengths, 4)
    expected = epoch_of(BucketOrder(lengths, 4))
    lengths[:] = 1
    assert epoch_of(order) == expected


# Under torch


@pytest.mark.parametrize(
    ("kind", "workers", "context"),
    [(kind, 0, None) for kind in ALL] + [("shuffled", 1, "spawn"), ("tokens", 2, "fork")],
)
def test_it_is_the_sampler_of_a_dataloader(kind: str, workers: int, context: str | None) -> None:
    """torch asks for two iterators where it has workers, and reads ahead."""
    expected = ALL[kind](23, 4)
    order = ALL[kind](23, 4)
    loader = DataLoader(
        TensorDataset(torch.arange(23) * 10),
        batch_size=None,
        sampler=order,
        num_workers=workers,
        multiprocessing_context=context,
        persistent_workers=context == "spawn",  # starting them is slow
    )
    for epoch in range(2):
        assert len(loader) == len(expected)
        assert [(rows // 10).tolist() for (rows,) in loader] == epoch_of(expected), epoch
    following = iter(loader)
    next(following)
    state = order.state_dict(1)
    rest = [(rows // 10).tolist() for (rows,) in following]
    order.load_state_dict(state)
    assert [(rows // 10).tolist() for (rows,) in loader] == rest


@pytest.mark.parametrize("kind", ALL)
def test_an_order_is_cheap_to_pickle_and_goes_on_where_it_was(kind: str) -> None:
    order = ALL[kind](5000, 50)
    order.load_state_dict(order.state_dict(3))
    len(order)
    dumped = pickle.dumps(order)
    assert len(dumped) < 5000 * 8 + 2000
    assert epoch_of(pickle.loads(dumped)) == epoch_of(order)


@pytest.mark.parametrize("kind", ALL)
def test_an_epoch_in_flight_holds_one_array(kind: str) -> None:
    count, size = 200_000, 8
    order = ALL[kind](count, size)
    one = 8 * count
    tracemalloc.start()
    try:
        batches = iter(order)
        next(batches)
        held, most = tracemalloc.get_traced_memory()
        assert held < 1.6 * one  # with where the batches begin and end, in numbers of batches
        assert most < 7 * one
        for _ in batches:
            pass
        tracemalloc.reset_peak()
        next(iter(order))
        held, most_again = tracemalloc.get_traced_memory()
        assert held < 1.6 * one
        assert most_again < most + one / 2
    finally:
        tracemalloc.stop()
