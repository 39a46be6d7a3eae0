"""Other numbers of prosumers: the first ones as they are, further ones made of them on the same days."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support import tiny_dataset

from prosumer_gym.community import Community, Fleet, TradeGraph
from prosumer_gym.datasets.resize import LARGEST, SMALLEST, draw_recipe, resized
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.datasets.staging import staged
from prosumer_gym.datasets.store import load_dataset, load_dataset_folder, save_dataset
from prosumer_gym.errors import UsageError
from prosumer_gym.feeders import ieee33

PER_PROSUMER = ("load_kw", "pv_kw", "shiftable_ref_kw", "weather_forecast")
COMMON = (
    "dates", "split", "block", "weekend", "price_da_ct_per_kwh", "price_rt_ct_per_kwh", "passive_pu", "weather",
)  # fmt: skip


@pytest.fixture(scope="module")
def tehran() -> Dataset:
    return load_dataset("tehran-v0")


@pytest.fixture(scope="module")
def forty(tehran: Dataset) -> Dataset:
    return resized(tehran, 40)


def test_the_source_s_prosumers_come_first_bit_by_bit(tehran: Dataset, forty: Dataset) -> None:
    assert forty.num_prosumers == 40
    assert forty.prosumers[:10] == tehran.prosumers
    for name in PER_PROSUMER:
        assert np.array_equal(getattr(forty, name)[:, :, :10], getattr(tehran, name)), name
    assert np.array_equal(forty.pv_capacity_kw[:10], tehran.pv_capacity_kw)


def test_days_prices_and_weather_are_the_source_s(tehran: Dataset, forty: Dataset) -> None:
    for name in COMMON:
        assert np.array_equal(getattr(forty, name), getattr(tehran, name)), name


@pytest.mark.parametrize("num", [1, 2, 9])
def test_fewer_are_the_first_ones(tehran: Dataset, num: int) -> None:
    few = resized(tehran, num)
    assert few.prosumers == tehran.prosumers[:num]
    for name in PER_PROSUMER:
        assert np.array_equal(getattr(few, name), getattr(tehran, name)[:, :, :num]), name


def source_and_factor(made: np.ndarray, of: np.ndarray) -> tuple[int, float]:
    """Of which column of [T,N0] the column [T] is a multiple, by least squares, and of how much."""
    factors = (of * made[:, None]).sum(axis=0) / (of**2).sum(axis=0)
    errors = np.abs(of * factors - made[:, None]).max(axis=0)
    best = int(np.argmin(errors))
    assert errors[best] <= 0.0011
    return best, float(factors[best])


def test_further_prosumers_are_scaled_copies_on_the_same_days(tehran: Dataset, forty: Dataset) -> None:
    """Found again from the arrays alone: load and shiftable load of one, PV of another, forecasts of a third."""

    def flat(dataset: Dataset, name: str) -> np.ndarray:
        return getattr(dataset, name).reshape(-1, dataset.num_prosumers)

    loads, suns, forecasts = [], [], []
    for n in range(10, 40):
        load, load_factor = source_and_factor(flat(forty, "load_kw")[:, n], flat(tehran, "load_kw"))
        sun, pv_factor = source_and_factor(flat(forty, "pv_kw")[:, n], flat(tehran, "pv_kw"))
        reference = tehran.shiftable_ref_kw[..., load] * load_factor
        assert np.allclose(forty.shiftable_ref_kw[..., n], reference, atol=1.5e-3)
        assert forty.pv_capacity_kw[n] == pytest.approx(tehran.pv_capacity_kw[sun] * pv_factor, abs=2e-3)
        same = [
            m for m in range(10) if np.array_equal(forty.weather_forecast[:, :, n], tehran.weather_forecast[:, :, m])
        ]
        assert len(same) == 1
        assert forty.prosumers[n] == f"{tehran.prosumers[load]}.{n}"
        assert SMALLEST - 1e-4 <= load_factor <= LARGEST + 1e-4
        assert SMALLEST - 1e-4 <= pv_factor <= LARGEST + 1e-4
        loads.append((load, load_factor))
        suns.append((sun, pv_factor))
        forecasts.append(same[0])
    assert len({n for n, _ in loads}) >= 7
    assert len({f for _, f in loads}) == 30
    chosen = ([n for n, _ in loads], [n for n, _ in suns], forecasts)
    assert all(one != other for one, other in itertools.combinations(chosen, 2))


def test_load_and_sun_still_go_with_the_weather(tehran: Dataset, forty: Dataset) -> None:
    heat, sun = tehran.weather[..., 0].mean(axis=1), tehran.weather[..., 2].mean(axis=1)
    for n in range(40):
        assert np.corrcoef(forty.pv_kw[..., n].mean(axis=1), sun)[0, 1] > 0.85
    assert np.corrcoef(forty.load_kw[..., 10:].sum(axis=(1, 2)), heat)[0, 1] > 0.5


def test_draws_are_even_and_independent() -> None:
    recipe = draw_recipe(10, 4010, seed=3)
    for of in (recipe.load_of, recipe.pv_of, recipe.forecast_of):
        counts = np.bincount(of[10:], minlength=10)
        assert np.abs(counts - 400).max() < 5 * np.sqrt(400)
    for factor in (recipe.load_factor, recipe.pv_factor):
        assert factor[10:].mean() == pytest.approx((SMALLEST + LARGEST) / 2, abs=0.01)
        assert factor[10:].std() == pytest.approx((LARGEST - SMALLEST) / np.sqrt(12), rel=0.05)
        assert (factor[:10] == 1.0).all()
    drawn = np.array([recipe.load_of, recipe.pv_of, recipe.forecast_of, recipe.load_factor, recipe.pv_factor])[:, 10:]
    assert np.abs(np.corrcoef(drawn) - np.eye(5)).max() < 0.08


def test_a_larger_set_begins_with_a_smaller_one(tehran: Dataset, forty: Dataset) -> None:
    twelve = resized(tehran, 12)
    assert twelve.prosumers == forty.prosumers[:12]
    for name in PER_PROSUMER:
        assert np.array_equal(getattr(twelve, name), getattr(forty, name)[:, :, :12]), name


def test_seeds_repeat_and_differ() -> None:
    tiny = tiny_dataset(num_days=10, num_prosumers=3)
    assert resized(tiny, 9).manifest.sha256 == resized(tiny, 9, seed=0).manifest.sha256
    assert resized(tiny, 9).manifest.sha256 != resized(tiny, 9, seed=1).manifest.sha256


@pytest.mark.parametrize("num", [2, 4, 7])
def test_scale_makes_every_prosumer_smaller_and_no_forecast_another(num: int) -> None:
    tiny = tiny_dataset(num_days=10, num_prosumers=4)
    full, small = resized(tiny, num, seed=5), resized(tiny, num, seed=5, scale=0.05)
    for name in ("load_kw", "pv_kw", "shiftable_ref_kw", "pv_capacity_kw"):
        assert np.allclose(getattr(small, name), 0.05 * getattr(full, name), atol=1e-3), name
    assert np.array_equal(small.weather_forecast, full.weather_forecast)


def test_manifest_and_card_say_what_was_made(tehran: Dataset, forty: Dataset) -> None:
    manifest = forty.manifest
    assert forty.id == "tehran-v0-40"
    assert manifest.sources[-1] == f"tehran-v0, version 1, SHA-256 {tehran.manifest.sha256}"
    assert manifest.made.endswith("prosumers 10 to 39, put together from scaled copies of the first 10")
    assert (manifest.measured, manifest.licence, manifest.time_zone) == ("nothing", "CC-BY-4.0", "UTC+03:30")
    assert forty.card.startswith("# tehran-v0-40\n\n40 prosumers made from the 10 of `tehran-v0`, version 1")
    assert "Prosumers 0 to 9 are the source's as they stand there." in forty.card
    assert "no more than 10 different forecasts" in forty.card
    assert "Seed 0;" in forty.card
    assert forty.card.endswith(tehran.card)
    small = resized(tehran, 40, scale=0.5, name="half")
    assert "load and PV multiplied by 0.5 (so are all others)" in small.card
    assert small.manifest.derived.endswith("every prosumer's load and PV scaled by 0.5")
    one = resized(tehran, 1)
    assert one.card.startswith("# tehran-v0-1\n\n1 of the 10 prosumers of `tehran-v0`")
    assert "Each further" not in one.card
    assert one.manifest.made == tehran.manifest.made


def test_it_is_stored_and_verified_like_any_other(forty: Dataset, tmp_path: Path) -> None:
    save_dataset(forty, tmp_path / "tehran-v0-40")
    again = load_dataset_folder(tmp_path / "tehran-v0-40")
    assert (again.manifest, again.card, again.prosumers) == (forty.manifest, forty.card, forty.prosumers)


def test_a_resized_set_can_be_resized() -> None:
    tiny = tiny_dataset(num_days=10, num_prosumers=2)
    again = resized(resized(tiny, 5), 12)
    assert len(set(again.prosumers)) == 12
    assert np.array_equal(again.load_kw[..., :2], tiny.load_kw)


def test_a_community_of_that_size_can_play_it(forty: Dataset) -> None:
    community = Community("forty", ieee33(), Fleet.identical([3] * 40), TradeGraph.ring_with_chords(40))
    assert staged(forty, community) is forty


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_prosumers": 0}, "0 prosumers: at least one is needed"),
        ({"num_prosumers": -2}, "-2 prosumers: at least one is needed"),
        ({"num_prosumers": 1001}, "1001 prosumers: at most 1000 can be made"),
        ({"num_prosumers": 10**12}, "prosumers: at most 1000 can be made"),
        ({"num_prosumers": "3"}, "'3' prosumers: give a whole number from 1 to 1000"),
        ({"num_prosumers": 2.5}, "2.5 prosumers: give a whole number"),
        ({"scale": "x"}, "scale 'x': give a number above zero"),
        ({"seed": "x"}, "seed 'x': give a whole number from 0 up"),
        ({"scale": 0.0}, "scale 0: give a number above zero"),
        ({"scale": float("nan")}, "scale nan: give a number above zero"),
        ({"seed": -1}, "seed -1: give a whole number from 0 up"),
        ({"name": "My street"}, "id 'My street': use a-z, 0-9"),
        ({"name": ""}, "id '': use a-z, 0-9"),
        ({"scale": 1e6}, "load_kw: .* is above the upper limit of one prosumer"),
    ],
)
def test_what_cannot_be_made_is_refused(changes: dict[str, object], says: str) -> None:
    tiny = tiny_dataset(num_days=10, num_prosumers=2)
    with pytest.raises(UsageError, match=says):
        resized(tiny, **{"num_prosumers": 4, **changes})  # type: ignore[arg-type]


def test_a_thousand_take_little_more_memory_than_their_arrays(tehran: Dataset) -> None:
    month = tehran.subset(tehran.days("dev")[:30])
    tracemalloc.start()
    try:
        many = resized(month, 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert many.load_kw.shape == (38, 24, 1000)
    assert len(set(many.prosumers)) == 1000
    assert peak < 1.5 * sum(getattr(many, name).nbytes for name in PER_PROSUMER)
