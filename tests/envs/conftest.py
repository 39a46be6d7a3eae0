from __future__ import annotations

import pytest
from support import tiny_dataset

from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.scenarios import make_scenario


@pytest.fixture(scope="session")
def days() -> Dataset:
    """24 training, 8 dev and 8 test days of ten prosumers."""
    return tiny_dataset()


@pytest.fixture(scope="session")
def community() -> Community:
    return make_scenario("ieee33")
