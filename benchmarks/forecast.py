"""Skill of the contextual forecast on the development days, against persistence and the mean of the last week.

Run: `python benchmarks/forecast.py [DATASET]` (default tehran-v0). Figures are root mean square errors as a share of
that of the mean of the last seven days: below 1 is better. In the course of the day: error of the later hours, as a
share of the forecast of the gate for the same hours. Times are of the processor. Test days are not looked at.

Axes: D days, H hours of a day, N prosumers.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.baselines.context import Context
from prosumer_gym.baselines.forecast import DayForecaster, DayValues
from prosumer_gym.datasets import load_dataset

SHOWN_HOURS = (0, 6, 12, 16)


def rmse(forecast: FloatArray, actual: FloatArray) -> float:
    return float(np.sqrt(np.mean((forecast - actual) ** 2)))


def main() -> None:
    dataset = load_dataset(sys.argv[1] if len(sys.argv) > 1 else "tehran-v0")
    began = time.process_time()
    forecaster = DayForecaster.fit(dataset.training_history())
    print(f"{dataset.id}: fit on {len(forecaster.errors)} days in {time.process_time() - began:.1f} s")
    rows = dataset.days("dev")
    context, actual = Context.from_history(dataset, rows), DayValues.of_history(dataset, rows)
    forecast = forecaster.gate.predict(context)
    past = DayValues(context.past_load_kw, context.past_pv_kw, context.past_price_rt_ct_per_kwh)
    out_of_fold = DayValues.from_series(forecaster.errors)
    errors = actual.series() - forecast.series()
    print(f"{'':22s}  week rmse  persistence  forecast  forecast, out of fold on training days")
    for name, one, days, truth, fold in zip(DayValues._fields, forecast, past, actual, out_of_fold, strict=True):
        week = rmse(days[:, -7:].mean(axis=1), truth)
        shares = [rmse(days[:, -1], truth) / week, rmse(one, truth) / week, rmse(fold, np.zeros_like(fold)) / week]
        print(f"{name:22s} {week:10.3f} {shares[0]:12.3f} {shares[1]:9.3f} {shares[2]:9.3f}")
    print("the later hours, once the hours up to h are known, against the forecast of the gate:")
    for hour in SHOWN_HOURS:
        left = DayValues.from_series(errors[..., hour + 1 :] - forecaster.update.expected(errors[..., : hour + 1]))
        gate = DayValues.from_series(errors[..., hour + 1 :])
        shares = [rmse(a, np.zeros_like(a)) / rmse(b, np.zeros_like(b)) for a, b in zip(left, gate, strict=True)]
        print(f"  h = {hour:2d}:  " + "  ".join(f"{n} {s:.3f}" for n, s in zip(DayValues._fields, shares, strict=True)))


if __name__ == "__main__":
    main()
