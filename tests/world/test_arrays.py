"""Read-only arrays stay read-only."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from support import tiny_dataset

from prosumer_gym.scenarios import make_scenario


@pytest.mark.parametrize(
    "made",
    [
        tiny_dataset,
        lambda: tiny_dataset().exogenous,
        lambda: make_scenario("ieee33").fleet,
        lambda: make_scenario("ieee33").graph,
        lambda: make_scenario("ieee33").feeder,
    ],
)
def test_arrays_are_read_only_before_and_after_pickling(made):
    original = made()
    for copy in (original, pickle.loads(pickle.dumps(original))):
        arrays = {name: value for name, value in vars(copy).items() if isinstance(value, np.ndarray)}
        assert arrays
        for name, value in arrays.items():
            assert not value.flags.writeable, name
            np.testing.assert_array_equal(value, getattr(original, name))


def test_what_a_feeder_tabulates_is_read_only_after_pickling():
    feeder = make_scenario("ieee33").feeder
    assert feeder.tables.parent.size
    copy = pickle.loads(pickle.dumps(feeder))
    for table in (feeder.tables, copy.tables):
        assert not any(part.flags.writeable for part in table if isinstance(part, np.ndarray))
    np.testing.assert_array_equal(copy.tables.r_pu, feeder.tables.r_pu)
