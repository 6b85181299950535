"""A store with a view of each kind."""

import pytest
from loading import Views, create

import merstore


@pytest.fixture
def views(store: merstore.Store) -> Views:
    return create(store)
