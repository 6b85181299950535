"""A loader that goes on where another was left, in the middle of an epoch."""

import json
from itertools import chain
from typing import Any

import pytest
import torch
from loading import SAMPLES, Views
from torch.utils.data import RandomSampler, SequentialSampler

import merstore
from merstore.load import BucketOrder, FeatureDataset, FeatureLoader, TokenOrder

HOW: list[dict[str, Any]] = [
    {"threads": 0},
    {"threads": 2, "prefetch": 4},
    {"num_workers": 2},
    {"num_workers": 1, "persistent_workers": True, "prefetch_factor": 4},
]


def loader(dataset: FeatureDataset, **options: Any) -> FeatureLoader:
    order = options.pop("order", None)
    if order is not None:
        return FeatureLoader(dataset, 4, sampler=order(dataset), **options)
    return FeatureLoader(dataset, 4, shuffle=True, seed=5, **options)


ORDERS = [
    None,
    lambda dataset: BucketOrder(dataset.lengths("audio"), 4),
    lambda dataset: TokenOrder(dataset.lengths("audio"), 16),
    SequentialSampler,
]


def names(loader: FeatureLoader) -> list[list[str]]:
    return [batch.names for batch in loader]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("taken", [0, 1, 9, 12, 13, 16])
def test_the_rest_is_exactly_what_would_have_come(
    views: Views, how: dict[str, Any], taken: int
) -> None:
    dataset = FeatureDataset(views)
    whole = loader(dataset)
    expected = names(whole) + names(whole) + names(whole)
    first = loader(dataset, **how)
    seen: list[list[str]] = []
    while len(seen) < taken:
        for batch in first:
            seen.append(batch.names)
            if len(seen) == taken:
                break
    state = json.loads(json.dumps(first.state_dict()))
    assert len(json.dumps(state)) < 500
    second = loader(dataset, **how)
    second.load_state_dict(state)
    assert second.state_dict() == state
    epochs = 2 + (taken >= 13)  # an epoch has 13 batches
    assert seen + names(second) + names(second) == expected[: 13 * epochs]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("threads", [0, 2])
def test_every_order_can_be_resumed(views: Views, order: Any, threads: int) -> None:
    dataset = FeatureDataset(views)
    first = loader(dataset, order=order, threads=threads)
    batches = iter(first)
    seen = [next(batches).names for _ in range(5)]
    state = first.state_dict()
    second = loader(dataset, order=order)
    second.load_state_dict(state)
    rest = [batch.names for batch in batches]
    assert names(second) == rest
    assert sorted(chain(*seen, *rest)) == list(dataset.names)


def test_another_number_of_workers_may_go_on(views: Views) -> None:
    dataset = FeatureDataset(views)
    first = loader(dataset, num_workers=2)
    batches = iter(first)
    seen = [next(batches).names for _ in range(5)]
    second = loader(dataset, threads=1)
    second.load_state_dict(first.state_dict())
    assert seen + names(second) == names(loader(dataset))


def test_another_number_of_ranks_may_go_on(views: Views) -> None:
    dataset = FeatureDataset(views)
    seen: list[str] = []
    states = []
    for rank in range(2):
        first = loader(dataset, rank=rank, world_size=2)
        batches = iter(first)
        seen += chain(*(next(batches).names for _ in range(2)))
        states.append(first.state_dict())
    assert states[0] == states[1]
    for rank in range(3):
        second = loader(dataset, rank=rank, world_size=3)
        second.load_state_dict(states[0])
        seen += chain(*names(second))
    assert set(seen) == set(dataset.names)
    assert len(seen) == 16 + 36  # 34 are left, dealt out evenly


def test_a_state_of_something_else_is_refused(views: Views) -> None:
    dataset = FeatureDataset(views)
    state = loader(dataset).state_dict()
    for other in (
        loader(FeatureDataset(views, [f"s{i:02d}" for i in range(SAMPLES - 1)])),
        FeatureLoader(dataset, 4, seed=5),
        FeatureLoader(dataset, 4, shuffle=True, seed=6),
        loader(dataset, order=ORDERS[1]),
        loader(dataset, order=SequentialSampler),
    ):
        with pytest.raises(merstore.MerstoreError, match="state is of another order"):
            other.load_state_dict(state)
    for damaged in ({}, None, {"version": 1}, state | {"position": -1}, state | {"version": 99}):
        with pytest.raises(merstore.MerstoreError):
            loader(dataset).load_state_dict(damaged)  # type: ignore[arg-type]


def test_a_sampler_whose_order_does_not_come_again_is_not_continued(views: Views) -> None:
    dataset = FeatureDataset(views)
    first = FeatureLoader(dataset, 4, sampler=RandomSampler(dataset))
    batches = iter(first)
    for _ in range(3):
        next(batches)
    state = first.state_dict()
    second = FeatureLoader(dataset, 4, sampler=RandomSampler(dataset))
    second.load_state_dict(state)
    with pytest.raises(merstore.MerstoreError, match="RandomSampler gives another each time"):
        iter(second)
    seeded = [
        FeatureLoader(
            dataset, 4, sampler=RandomSampler(dataset, generator=torch.Generator().manual_seed(3))
        )
        for _ in range(2)
    ]
    batches = iter(seeded[0])
    for _ in range(3):
        next(batches)
    seeded[1].load_state_dict(seeded[0].state_dict())
    assert names(seeded[1]) == [batch.names for batch in batches]
