"""Small synthetic data for tests: no files, no weather library, a fraction of a second.

Axes: D days, H steps of a day, N prosumers, F covariates.
"""

from __future__ import annotations

import numpy as np

from prosumer_gym.datasets.schema import COVARIATES, LEAD_IN_DAYS, UNITS, Dataset, Manifest


def tiny_manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "id": "tiny",
        "version": "1",
        "title": "Tiny days for tests",
        "licence": "CC0-1.0",
        "citation": "none",
        "sources": (),
        "units": UNITS,
        "interval_label": "begin",
        "time_zone": "UTC+03:30",
        "measured": "nothing",
        "derived": "nothing",
        "made": "everything",
    }
    return Manifest.model_validate({**fields, **changes})


def tiny_dataset(num_days: int = 40, num_prosumers: int = 10, seed: int = 0, hours: int = 24) -> Dataset:
    """`num_days` scored days (about 60 % train, 20 % dev, 20 % test; one block each) and 8 lead-in days per block.

    Loads, PV and prices follow the weather, forecasts are the weather plus noise of each prosumer.
    """
    num_dev = num_test = max(1, num_days // 5)
    sizes = {"train": num_days - num_dev - num_test, "dev": num_dev, "test": num_test}
    assert sizes["train"] >= 1, "at least three days are needed"
    split = [label for name, size in sizes.items() for label in ["lead-in"] * LEAD_IN_DAYS + [name] * size]
    block = [k for k, size in enumerate(sizes.values()) for _ in range(LEAD_IN_DAYS + size)]
    D, H, N = len(split), hours, num_prosumers
    rng = np.random.default_rng(seed)
    dates = np.datetime64("2021-06-01") + np.arange(D)
    weekend = np.isin((dates.astype(np.int64) + 3) % 7, (3, 4))

    hour = (np.arange(H) + 0.5) * 24.0 / H
    anomaly_c = rng.normal(0.0, 2.5, D)
    cloud = np.clip(rng.beta(0.5, 2.0, D)[:, None] + rng.normal(0.0, 0.05, (D, H)), 0.0, 1.0)
    temperature_c = (
        29.0 + anomaly_c[:, None] + 6.0 * np.cos(2.0 * np.pi * (hour - 15.0) / 24.0) + rng.normal(0.0, 0.5, (D, H))
    )
    sun = np.maximum(np.sin(np.pi * (hour - 5.0) / 14.0), 0.0) * ((hour > 5.0) & (hour < 19.0))
    irradiance = 950.0 * sun * (1.0 - 0.7 * cloud)
    weather = np.stack([temperature_c, cloud, irradiance], axis=-1)
    noise = rng.normal(0.0, 1.0, (D, 1, N, 3)) * np.array([1.0, 0.08, 0.05])
    forecast = np.repeat(weather[:, :, None, :], N, axis=2) + noise * np.array([1.0, 1.0, 0.0])
    forecast[..., 1] = np.clip(forecast[..., 1], 0.0, 1.0)
    forecast[..., 2] *= np.clip(1.0 + noise[..., 2], 0.5, 1.4)

    size_kw = rng.uniform(10.0, 25.0, N)
    shape = 0.5 + 0.3 * np.exp(-0.5 * ((hour - 13.0) / 3.0) ** 2) + 0.3 * np.exp(-0.5 * ((hour - 21.0) / 2.0) ** 2)
    cooling = 0.03 * np.clip(temperature_c - 22.0, 0.0, None)
    total_kw = size_kw * (shape[:, None] + cooling[:, :, None]) * rng.lognormal(0.0, 0.08, (D, H, N))
    training = np.array(split) == "train"
    shiftable_ref_kw = np.broadcast_to(0.3 * total_kw[training].mean(axis=0), total_kw.shape)
    capacity_kw = rng.uniform(30.0, 60.0, N)
    pv_kw = capacity_kw * irradiance[:, :, None] / 1000.0 * rng.uniform(0.8, 0.9, N)

    stress = np.tanh((forecast[..., 0].mean(axis=-1) - 30.0) / 6.0)
    price_da = np.clip(9.0 + 2.5 * stress + rng.normal(0.0, 0.2, (D, H)), 6.0, 12.0)
    price_rt = np.clip(
        price_da + 0.8 * (temperature_c - forecast[..., 0].mean(axis=-1)) + rng.gamma(0.6, 2.0, (D, H)), 6.0, 25.0
    )
    passive = 0.4 + 0.1 * np.exp(-0.5 * ((hour - 21.0) / 2.0) ** 2) + 0.005 * anomaly_c[:, None]
    return Dataset(
        manifest=tiny_manifest(),
        prosumers=tuple(f"home-{n}" for n in range(N)),
        dates=dates,
        split=np.array(split),
        block=np.array(block),
        weekend=weekend,
        load_kw=0.7 * total_kw,
        pv_kw=pv_kw,
        shiftable_ref_kw=shiftable_ref_kw,
        price_da_ct_per_kwh=price_da,
        price_rt_ct_per_kwh=price_rt,
        passive_pu=passive,
        weather=weather,
        weather_forecast=forecast,
        pv_capacity_kw=capacity_kw,
        covariates=COVARIATES,
        card="# Tiny\n",
    )
