"""The days of a data set as a community lives them, and what the scenarios' feeders make of them without control."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support import tiny_dataset

from prosumer_gym.datasets.realism import NetworkFigures, network_without_control
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.staging import staged
from prosumer_gym.datasets.store import load_dataset
from prosumer_gym.errors import UsageError
from prosumer_gym.scenarios import make_scenario


def test_pv_is_as_large_as_the_community_has_it() -> None:
    dataset, community = tiny_dataset(num_days=5), make_scenario("ieee33")
    ratio = np.linspace(0.0, 4.5, 10)
    larger = staged(dataset, community.replace(fleet=dataclasses.replace(community.fleet, pv_ratio=ratio)))
    np.testing.assert_array_equal(larger.pv_kw, dataset.pv_kw * ratio)
    np.testing.assert_array_equal(larger.pv_capacity_kw, dataset.pv_capacity_kw * ratio)
    np.testing.assert_array_equal(larger.exogenous.pv_kw, larger.pv_kw)
    for field in dataclasses.fields(Dataset):
        if field.name not in ("pv_kw", "pv_capacity_kw", "manifest"):
            assert np.array_equal(getattr(larger, field.name), getattr(dataset, field.name)), field.name
    assert larger.id == dataset.id
    assert larger.manifest.sha256 != dataset.manifest.sha256


def test_where_the_pv_is_the_datas_nothing_is_copied() -> None:
    dataset = tiny_dataset(num_days=5)
    assert staged(dataset, make_scenario("ieee33")) is dataset
    with pytest.raises(UsageError, match="tiny: it has 9 prosumers, the community has 10"):
        staged(tiny_dataset(num_days=5, num_prosumers=9), make_scenario("ieee33"))


@pytest.fixture(scope="module")
def tehran() -> Dataset:
    return load_dataset("tehran-v0")


def without_control(tehran: Dataset, name: str, split: str) -> NetworkFigures:
    community = make_scenario(name)
    return network_without_control(staged(tehran, community), community, split)


def test_high_pv_lifts_the_voltage_at_noon(tehran: Dataset) -> None:
    figures = without_control(tehran, "ieee33-high-pv", "train")
    assert 0.02 <= figures.share_above <= 0.06
    assert figures.share_below < 1e-4
    assert 1.06 <= figures.highest_pu <= 1.08
    assert -1000.0 <= figures.exchange_kw[0] <= -900.0
    community = make_scenario("ieee33-high-pv")
    days = staged(tehran, community)
    train = days.days("train")
    net_kw = (days.load_kw + days.shiftable_ref_kw - days.pv_kw)[train]
    assert np.abs(net_kw).max() < community.fleet.position_limit_kw.min()  # the limits bind nowhere without control
    shifted = days.replace(load_kw=days.load_kw + 20.0)  # every battery charges: almost all of it can be avoided
    assert network_without_control(shifted, community, "train").share_above < 0.001


@pytest.mark.parametrize("name", ["case69", "case141"])
def test_the_larger_feeders_sag_a_little(tehran: Dataset, name: str) -> None:
    figures = without_control(tehran, name, "train")
    assert 0.01 <= figures.share_below <= 0.05
    assert figures.share_above == 0.0
    assert 0.92 <= figures.lowest_pu <= 0.945
    nobody = tehran.replace(
        load_kw=0.0 * tehran.load_kw, shiftable_ref_kw=0.0 * tehran.load_kw, pv_kw=0.0 * tehran.pv_kw
    )
    alone = network_without_control(nobody, make_scenario(name), "train")
    assert alone.share_below < 0.25 * figures.share_below  # what goes wrong is the community's own doing
    assert name != "case141" or alone.lowest_pu > 0.95


@pytest.mark.parametrize("name", ["ieee33-high-pv", "case69", "case141"])
@pytest.mark.parametrize("split", ["dev", "test"])
def test_other_summers_are_like_it(tehran: Dataset, name: str, split: str) -> None:
    figures, train = without_control(tehran, name, split), without_control(tehran, name, "train")
    outside = figures.share_below + figures.share_above
    assert outside == pytest.approx(train.share_below + train.share_above, rel=0.3)
