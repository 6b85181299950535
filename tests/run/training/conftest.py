"""A corpus in a store, and its attention problem."""

import pytest

from merstore.models.baselines.blocks import ROLES
from merstore.run.training import Problem, load
from merstore.run.training.task import find_labels, task_of
from merstore.store.store import Store

from .made import FOLDERS, corpus


@pytest.fixture
def problem(store: Store) -> Problem:
    corpus(store)
    task = task_of(find_labels(store, "MER2023"), "MER2023")
    return load(store, task, list(FOLDERS.values()), ROLES)
