"""A batch as a TensorDict holds the same tensors, by the same keys."""

import numpy as np
import pytest

from merstore.interop.tensordicts import to_tensordict
from merstore.load import FeatureDataset
from merstore.store.store import Store

pytest.importorskip("tensordict")


@pytest.fixture
def filled(store: Store) -> Store:
    store.create_view("mer2023/frame@clip/8", shape=(2, 3)).update(
        {name: np.full((2, 3), i, np.float32) for i, name in enumerate("abcd")}
    )
    store.create_view("mer2023/audio@hubert/FRA", shape=(None, 3)).update(
        {name: np.full((i + 1, 3), i, np.float32) for i, name in enumerate("abc")}
    )
    return store


@pytest.mark.parametrize("layout", ["padded", "values", "nested"])
def test_keys_and_tensors_are_the_batchs(filled: Store, layout: str) -> None:
    names = list("dbac")
    dataset = FeatureDataset(
        list(filled.values()),
        names,
        on_miss="mask",
        columns={"label": np.arange(4)},
        layout={"audio": layout},
    )
    batch = dataset[[0, 1, 2, 3]]
    made = to_tensordict(batch)
    assert made.batch_size == (4,)
    assert list(made["name"]) == names
    assert set(made.keys()) == {"name", *batch.keys()}
    assert made["audio_mask"].tolist() == [False, True, True, True]
    assert made["frame"].data_ptr() == batch["frame"].data_ptr()
    lengths = (
        made["audio_length"] if layout == "padded" else made["audio"].offsets().diff()
    ).tolist()
    assert lengths == [0, 2, 1, 3]
    assert made[1:3]["label"].tolist() == [1, 2]
