"""The figure of a data set: its days, one day of them, and how its quantities hang together.

Axes: D days, H steps of a day, N prosumers, F covariates, C quantities. Needs matplotlib (the extra `plots`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.datasets.schema import Dataset

# Colours that stay apart for colour-blind readers (Okabe and Ito, 2008).
LOAD, PV, DAY_AHEAD, REAL_TIME, TEMPERATURE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#7A3E9D"
_SPLIT = {"train": "#EAEAEA", "dev": "#C3DDEF", "test": "#F8DDB4"}
_INK, _FAINT = "#222222", "#8C8C8C"
_STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.axisbelow": True,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
}
_LONGEST_HOLE_DAYS = 14
_SHORT = {"temperature_c": "temperature", "cloud_fraction": "cloud", "irradiance_w_per_m2": "irradiance"}
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


def plot_dataset(dataset: Dataset, path: Path, *, row: int | None = None) -> Path:
    """Draw `dataset` into the PNG `path`, with the day `row` shown hour by hour (None: `typical_day`).

    Above, daily means of load, PV and both prices over all days, with the splits behind them; below, one day, and the
    correlations over all hours.
    """
    shown = typical_day(dataset) if row is None else row
    with mpl.rc_context(cast(Any, _STYLE)):
        figure = Figure(figsize=(15.0, 13.0), dpi=110, layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        above, below = cast(Any, figure.subfigures(2, 1, height_ratios=(1.0, 1.15), hspace=0.03))
        left, right = below.subfigures(1, 2, width_ratios=(1.45, 1.0), wspace=0.02)
        figure.suptitle(f"{dataset.id}: {dataset.manifest.title}", x=0.008, ha="left", fontsize=16, fontweight="bold")
        _draw_days(dataset, above, shown)
        _draw_one_day(dataset, left, shown)
        _draw_correlations(dataset, right)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="png")
    return path


def typical_day(dataset: Dataset) -> int:
    """Row of the train day whose total load and PV are nearest to the median of the train days."""
    rows = dataset.days("train")
    daily = np.stack([dataset.load_kw[rows].sum(axis=(1, 2)), dataset.pv_kw[rows].sum(axis=(1, 2))], axis=1)
    scale = daily.std(axis=0)
    away = np.abs(daily - np.median(daily, axis=0)) / np.where(scale > 0.0, scale, 1.0)
    return int(rows[int(away.sum(axis=1).argmin())])


def correlations(dataset: Dataset) -> tuple[tuple[str, ...], FloatArray]:
    """Correlations over all hours [C,C] and the names of what is correlated.

    Load and PV of the community, prices, weather, and the errors of the forecasts (mean of the prosumers' forecasts
    minus what came). NaN where a quantity never changes.
    """
    series = {
        "load": dataset.load_kw.sum(axis=2),
        "PV": dataset.pv_kw.sum(axis=2),
        "day-ahead price": dataset.price_da_ct_per_kwh,
        "real-time price": dataset.price_rt_ct_per_kwh,
        "real-time - day-ahead": dataset.price_rt_ct_per_kwh - dataset.price_da_ct_per_kwh,
    }
    names = [_SHORT.get(name, name) for name in dataset.covariates]
    for f, name in enumerate(names):
        series[name] = dataset.weather[:, :, f]
    for f, name in enumerate(names):
        series[f"{name} error"] = dataset.weather_forecast[:, :, :, f].mean(axis=2) - dataset.weather[:, :, f]
    values = np.stack([value.ravel() for value in series.values()])
    values = values - values.mean(axis=1, keepdims=True)
    scale = np.sqrt((values**2).mean(axis=1))
    scale = np.where(scale > 1e-9, scale, np.nan)
    matrix: FloatArray = (values @ values.T) / values.shape[1] / np.outer(scale, scale)
    return tuple(series), matrix


def _draw_days(dataset: Dataset, figure: Any, shown: int) -> None:
    """Daily means; where months are missing between days, the parts stand side by side."""
    place, ticks = _places(dataset)
    energy, prices = figure.subplots(2, 1, sharex=True)
    for axes in (energy, prices):
        for number in np.unique(dataset.block):
            mine = np.flatnonzero((dataset.block == number) & (dataset.split != "lead-in"))
            colour = _SPLIT[str(dataset.split[mine[0]])]
            axes.axvspan(place[mine[0]] - 0.5, place[mine[-1]] + 0.5, color=colour, lw=0, zorder=0)
        axes.set_xlim(place[0] - 0.5, place[-1] + 0.5)
        axes.set_xticks([at for at, _ in ticks], [label for _, label in ticks])
        axes.grid(axis="y")
    curves = (
        (energy, dataset.load_kw + dataset.shiftable_ref_kw, LOAD, "load, shiftable included"),
        (energy, dataset.pv_kw, PV, "PV"),
        (prices, dataset.price_rt_ct_per_kwh[:, :, None], REAL_TIME, "real-time"),
        (prices, dataset.price_da_ct_per_kwh[:, :, None], DAY_AHEAD, "day-ahead"),
    )
    for axes, values, colour, label in curves:
        daily = values.sum(axis=2).mean(axis=1)
        for rows in _runs(dataset, 1):
            axes.plot(place[rows], daily[rows], color=colour, lw=1.5, label=label if rows[0] == 0 else None)
    energy.set_title("Community, means of the days")
    energy.set_ylabel("kW")
    energy.set_ylim(bottom=0.0)
    prices.set_title("Market prices, means of the days")
    prices.set_ylabel("ct/kWh")
    counts = {name: int((dataset.split == name).sum()) for name in _SPLIT}
    backgrounds = [Patch(facecolor=_SPLIT[name], label=f"{name}, {days} days") for name, days in counts.items() if days]
    backgrounds.append(Patch(facecolor="white", edgecolor=_FAINT, lw=0.6, label="lead-in"))
    _legend(energy, [*energy.get_legend_handles_labels()[0], *backgrounds])
    _legend(prices, prices.get_legend_handles_labels()[0])
    top = energy.get_ylim()[1]
    energy.plot(place[shown], top, marker="v", ms=8, color=_INK, clip_on=False, zorder=5)


def _draw_one_day(dataset: Dataset, figure: Any, row: int) -> None:
    date = dataset.dates[row].item()
    label = f"{_WEEKDAYS[int(dataset.weekday[row])]} {date.day} {_MONTHS[date.month - 1]} {date.year}"
    figure.suptitle(f"One day (\u25bc above): {label}", x=0.015, ha="left", fontsize=12.5, fontweight="bold")
    (load, pv), (price, weather) = figure.subplots(2, 2, sharex=True)
    hours = np.arange(dataset.num_hours + 1) * dataset.dt_h

    def draw(axes: Axes, values: FloatArray, **style: Any) -> None:
        axes.stairs(values, hours, baseline=None, **style)

    for axes, values, colour, title in (
        (load, dataset.load_kw[row], LOAD, "Must-run load"),
        (pv, dataset.pv_kw[row], PV, "PV"),
    ):
        if np.ptp(values, axis=1).max() == 0.0:
            draw(axes, values[:, 0], color=colour, lw=2.0, label="the same for all prosumers")
        else:
            for n in range(dataset.num_prosumers):
                draw(axes, values[:, n], color=colour, alpha=0.45, lw=1.0, label="each prosumer" if n == 0 else None)
            draw(axes, values.mean(axis=1), color=_INK, lw=2.0, label="mean")
        axes.set_title(title)
        axes.set_ylabel("kW")
        axes.set_ylim(0.0, max(1.0, 1.25 * float(values.max())))  # room for the legend
    draw(load, dataset.shiftable_ref_kw[row].mean(axis=1), color=_INK, lw=1.4, ls="--", label="shiftable, mean")
    draw(price, dataset.price_rt_ct_per_kwh[row], color=REAL_TIME, lw=2.0, label="real-time")
    draw(price, dataset.price_da_ct_per_kwh[row], color=DAY_AHEAD, lw=2.0, label="day-ahead")
    price.set_title("Market prices")
    price.set_ylabel("ct/kWh")
    price.set_ylim(top=_with_room(price))
    for n in range(dataset.num_prosumers):
        forecast = dataset.weather_forecast[row, :, n, 0]
        draw(weather, forecast, color=TEMPERATURE, alpha=0.4, lw=1.0, label="each forecast" if n == 0 else None)
    draw(weather, dataset.weather[row, :, 0], color=_INK, lw=2.0, label="observed")
    first = dataset.covariates[0]
    weather.set_title(_SHORT.get(first, first).capitalize())
    weather.set_ylabel("\u00b0C" if first == "temperature_c" else first)
    weather.set_ylim(top=_with_room(weather))
    for axes in (load, pv, price, weather):
        axes.grid(axis="y")
        axes.set_xlim(0.0, 24.0)
        axes.set_xticks(range(0, 25, 6), [f"{hour}:00" for hour in range(0, 25, 6)])
        axes.legend(
            loc="upper left", ncols=3, handlelength=1.3, columnspacing=1.0, handletextpad=0.5, borderaxespad=0.2
        )


def _draw_correlations(dataset: Dataset, figure: Any) -> None:
    names, matrix = correlations(dataset)
    axes = figure.subplots()
    size = len(names)
    below = np.tril(np.ones((size, size), dtype=np.bool_), -1)
    axes.imshow(np.where(below, matrix, np.nan)[1:, :-1], cmap="PuOr_r", vmin=-1.0, vmax=1.0, aspect="equal")
    for i in range(1, size):
        for j in range(i):
            value = matrix[i, j]
            text = "-" if np.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "\u2212")
            colour = "white" if abs(value) > 0.65 else _INK
            axes.text(j, i - 1, text, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(size - 1), names[:-1], rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size - 1), names[1:])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.suptitle("Correlations over all hours", x=0.015, ha="left", fontsize=12.5, fontweight="bold")
    axes.set_title("error: forecast \u2212 observed", fontweight="normal", fontsize=10)


def _with_room(axes: Axes) -> float:
    """The upper end of the axis that leaves room for a legend."""
    low, high = axes.get_ylim()
    return high + 0.16 * (high - low)


def _legend(axes: Axes, handles: list[Any]) -> None:
    """A legend in one line, above the axes at the right."""
    axes.legend(handles=handles, ncols=len(handles), loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)


def _runs(dataset: Dataset, longest_step: int) -> list[IntArray]:
    """Rows that follow each other by at most `longest_step` days."""
    holes = np.flatnonzero(np.diff(dataset.dates).astype(np.int64) > longest_step) + 1
    return [np.asarray(rows, dtype=np.int64) for rows in np.split(np.arange(dataset.num_days), holes)]


def _places(dataset: Dataset) -> tuple[FloatArray, list[tuple[float, str]]]:
    """Where each row stands on the axis of days [D], and a tick at the first of each month."""
    since = dataset.dates.astype(np.int64)
    month = dataset.dates.astype("datetime64[M]")
    place = np.zeros(dataset.num_days)
    ticks: list[tuple[float, str]] = []
    offset = 0.0
    year_told = 0
    for rows in _runs(dataset, _LONGEST_HOLE_DAYS):
        place[rows] = offset + (since[rows] - since[rows[0]])
        for first in np.arange(month[rows[0]], month[rows[-1]] + np.timedelta64(1, "M")):
            at = offset + float(first.astype("datetime64[D]").astype(np.int64) - since[rows[0]])
            date = first.astype("datetime64[D]").item()
            if at >= offset - 3.0:  # a month that began just before the first day still gets its name
                told = "" if date.year == year_told else f"\n{date.year}"
                year_told = date.year
                ticks.append((max(at, offset), _MONTHS[date.month - 1] + told))
        offset = float(place[rows[-1]]) + 4.0
    return place, ticks
