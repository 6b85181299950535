"""What is kept of a batch never changes, and what is not kept is used again."""

import gc
from typing import Any

import numpy as np
import pytest
import torch

import merstore
from merstore.load import FeatureDataset, FeatureLoader
from merstore.load.buffers import Place, Pool, fresh, shared

FLOAT = np.dtype(np.float32)
EMPTY = [fresh, shared, Pool(2), Place()]


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16", "int64", "bool"])
@pytest.mark.parametrize("shape", [(3, 2), (5,), (0, 4), (2, 0, 3)])
def test_memory_has_the_shape_and_dtype_asked_for(
    empty: Any, dtype: str, shape: tuple[int, ...]
) -> None:
    tensor = empty(shape, np.dtype(dtype))
    assert tensor.shape == shape
    assert tensor.numpy().dtype == dtype
    assert tensor.is_contiguous()
    tensor.zero_()
    assert not tensor.any()


def test_memory_begins_at_a_64_byte_boundary() -> None:
    pool = Pool(2)
    held = [make((7, 3), FLOAT) for make in (fresh, pool, Place()) for _ in range(2)]
    assert all(tensor.data_ptr() % 64 == 0 for tensor in held)


@pytest.mark.parametrize(
    "keep",
    [
        lambda tensor: tensor,
        lambda tensor: tensor[1:2],
        lambda tensor: tensor.view(-1)[3:],
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor.numpy()[2],
        lambda tensor: tensor.detach(),
        lambda tensor: memoryview(tensor.numpy()),
    ],
)
def test_a_slab_is_lent_until_nothing_of_it_is_held(keep: Any) -> None:
    pool = Pool(4)
    held = keep(pool((4, 4), FLOAT).fill_(1))
    before = np.asarray(held).copy()
    for _ in range(5):
        pool((4, 4), FLOAT).fill_(2)
    assert (np.asarray(held) == before).all()
    assert pool.slabs == 2
    del held
    one, two = pool((4, 4), FLOAT), pool((4, 4), FLOAT)
    assert pool.slabs == 2
    assert one.data_ptr() != two.data_ptr()


def test_slabs_grow_to_the_largest_and_only_so_many_lie_idle() -> None:
    pool = Pool(2)
    for size in (10, 1000, 10, 1000, 500):
        pool((size,), FLOAT)
    assert pool.slabs == 2
    many = [pool((1000,), FLOAT) for _ in range(6)]
    assert pool.slabs == 7
    del many
    again = [pool((1000,), FLOAT) for _ in range(3)]
    assert pool.slabs == 8  # two were kept
    assert len({tensor.data_ptr() for tensor in again}) == 3


def test_what_outlives_its_pool_stays_as_it_is() -> None:
    pool = Pool(2)
    held = pool((100,), FLOAT).fill_(3)
    del pool
    gc.collect()
    fresh((100,), FLOAT).fill_(4)
    assert held.eq(3).all()


def test_a_place_is_written_over() -> None:
    place = Place()
    one = place((4,), FLOAT).fill_(1)
    two = place((4,), FLOAT).fill_(2)
    assert one.data_ptr() == two.data_ptr()
    assert one.eq(2).all()
    assert place((400,), FLOAT).shape == (400,)


def _kept(batch: Any) -> list[Any]:
    return [
        batch["frame"], batch["frame"][1:3], batch["audio"].numpy(), batch["audio"][:, 0],
        batch.mask["frame"], batch.lengths["audio"],
    ]  # fmt: skip


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("prefetch", [1, 4])
def test_kept_batches_never_change(
    views: dict[str, merstore.View], threads: int, prefetch: int
) -> None:
    loader = FeatureLoader(
        FeatureDataset(views), 4, threads=threads, prefetch=prefetch, shuffle=True
    )
    kept, copies = [], []
    for epoch in range(3):
        for number, batch in enumerate(loader):
            if (number + epoch) % 2:
                some = _kept(batch)
                kept.append(some)
                copies.append([torch.as_tensor(part).clone() for part in some])
    for some, copied in zip(kept, copies, strict=True):
        for part, copy in zip(some, copied, strict=True):
            assert torch.as_tensor(part).equal(copy)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_who_keeps_nothing_has_nothing_new_allocated(
    views: dict[str, merstore.View], threads: int
) -> None:
    dataset = FeatureDataset(views, length=5)
    loader = FeatureLoader(dataset, 4, threads=threads, prefetch=2, shuffle=True)

    def slabs() -> dict[str, int]:
        return {key: pool.slabs for key, pool in loader._buffers()(0).items()}  # type: ignore[attr-defined]

    for _ in loader:
        pass
    # under way or waiting, and one each at the caller's and about to be
    assert all(count <= 2 + 3 for count in slabs().values())
    after = dict.fromkeys(slabs(), 5)
    for _ in range(5):
        for _ in loader:
            pass
    assert all(count <= after[key] for key, count in slabs().items())


def test_reuse_writes_over_a_batch_prefetch_and_one_later(
    views: dict[str, merstore.View],
) -> None:
    loader = FeatureLoader(FeatureDataset(views["frame"]), 5, reuse=True, prefetch=2)
    places = [batch["frame"].data_ptr() for batch in loader]
    assert len(places) == 10
    assert len(set(places)) == 3
    assert places[3:] == places[:-3]
    for batch in loader:  # good until the next is asked for
        assert batch["frame"][:, 0, 0].tolist() == [float(name[1:]) for name in batch.names]
