"""Pictures of a run: a day's dispatch, the feeder's voltages, cost against peak, good and bad days.

Axis letters: D days, H hours of a day, N prosumers, K buses.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator
from matplotlib.transforms import Bbox

from prosumer_gym.arrays import FloatArray
from prosumer_gym.errors import UsageError
from prosumer_gym.leaderboard.bench import Board, Row
from prosumer_gym.leaderboard.run import Stage
from prosumer_gym.leaderboard.score import PROFILE_THRESHOLDS

_INK, _MUTED, _GRID = "#1f2933", "#6b7785", "#e3e7eb"
_LOAD, _SHIFT, _CHARGE, _PV, _DISCHARGE = "#9aa5b1", "#c98bb9", "#4c9f70", "#f2b134", "#2a6f97"
_EXCHANGE, _REFERENCE, _LIMIT = "#1f2933", "#c0392b", "#c0392b"
_COLOURS = 10
"""That lines of policies have before they come round again."""
_STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "text.color": _INK,
    "legend.frameon": False,
    "figure.dpi": 130,
    "savefig.bbox": "tight",
}


def save_pictures(stage: Stage, boards: Sequence[Board], folder: Path) -> list[Path]:
    """Dispatch, voltages and Pareto pictures of a run, best policies first; returns their files.

    Raises:
        UsageError: the folder cannot be written to.
    """
    policies = sorted((row for board in boards for row in board.policies), key=lambda row: -row.score.j)
    reference = boards[0].reference
    best = policies[0] if policies else boards[0].anchors[0]
    with plt.style.context(_STYLE):
        pictures = {
            "dispatch.png": dispatch_picture(stage, best, reference),
            "voltages.png": voltage_picture(stage, best, reference),
            "cost-peak.png": pareto_picture(boards),
            "profiles.png": profile_picture(boards),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, figure in pictures.items():
                figure.savefig(folder / name)
        except OSError as error:
            raise UsageError(f"{folder}: cannot be written to ({error.strerror}); choose another --out") from None
        finally:
            for figure in pictures.values():
                plt.close(figure)
    return [folder / name for name in pictures]


def costly_day(reference: Row) -> int:
    """Position of a day that is dear but no outlier: its cost under no control is nearest the 90th percentile."""
    cost_ct = reference.metrics.cost_ct
    return int(np.argmin(np.abs(cost_ct - np.quantile(cost_ct, 0.9))))


def row_label(row: Row) -> str:
    """Name and mode of a row."""
    name = row.entry.name.partition(":")[2] if row.entry.is_own_class else row.entry.name
    return f"{name} ({row.entry.mode})" if row.entry.kind == "policy" else name


def dispatch_picture(stage: Stage, row: Row, reference: Row) -> Figure:
    """One day of the community under a policy: who uses and gives power, the prices, the batteries."""
    d = costly_day(reference)
    data_row = int(stage.rows[d])
    exogenous, trace, dt = stage.staged.exogenous, row.trace, stage.community.dt_h
    hours = np.arange(stage.community.hours_per_day) * dt
    figure, (power, price, store) = plt.subplots(
        3, 1, figsize=(9.2, 8.2), sharex=True, height_ratios=[2.6, 1, 1.1], layout="constrained"
    )

    def total(values: FloatArray) -> FloatArray:
        return np.asarray(values.sum(axis=1))

    battery = trace.battery_kw[d]
    uses = [
        ("load", total(exogenous.load_kw[data_row]), _LOAD),
        ("shiftable load", total(trace.shiftable_kw[d]), _SHIFT),
        ("battery charging", total(np.maximum(battery, 0.0)), _CHARGE),
    ]
    gives = [
        ("PV", total(exogenous.pv_kw[data_row] - trace.curtail_kw[d]), _PV),
        ("battery discharging", total(np.maximum(-battery, 0.0)), _DISCHARGE),
    ]
    for sign, parts in ((1.0, uses), (-1.0, gives)):
        base = np.zeros(len(hours))
        for label, values, colour in parts:
            power.bar(
                hours, sign * values, 0.92 * dt, bottom=base, align="edge", color=colour, label=label, linewidth=0
            )
            base = base + sign * values
    edges = np.append(hours, 24.0)
    for who, colour, style, width in ((reference, _REFERENCE, (0, (3, 1.5)), 1.6), (row, _EXCHANGE, "-", 2.2)):
        exchange = who.trace.exchange_kw[d]
        label = f"exchange with the grid, {row_label(who)}"
        power.stairs(exchange, edges, baseline=None, color=colour, linestyle=style, linewidth=width, label=label)
    power.axhline(0.0, color=_INK, linewidth=0.8)
    power.set_ylabel("kW (use up, supply down)")
    date = stage.dataset.dates[data_row]
    power.set_title(f"{row_label(row)} on {date}, {stage.dataset.id}: the community's day")
    low, high = power.get_ylim()
    power.set_ylim(1.06 * low, 1.06 * high)
    power.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.03), fontsize=8.5, columnspacing=1.4)

    prices = stage.community.tariff.settlement_prices(
        exogenous.price_da_ct_per_kwh[data_row], exogenous.price_rt_ct_per_kwh[data_row]
    )
    price.stairs(prices.da_buy, edges, baseline=None, color=_DISCHARGE, linewidth=1.8, label="day-ahead, buying")
    price.stairs(
        prices.da_sell, edges, baseline=None, color=_DISCHARGE, linewidth=1.1, linestyle=(0, (3, 1.5)), label="selling"
    )
    price.stairs(prices.rt_buy, edges, baseline=None, color=_PV, linewidth=1.8, label="real-time, buying")
    price.stairs(
        prices.rt_sell, edges, baseline=None, color=_PV, linewidth=1.1, linestyle=(0, (3, 1.5)), label="selling"
    )
    price.set_ylabel("ct/kWh")
    price.set_title("Prices")
    price.legend(ncols=4, loc="upper left", fontsize=8.5, borderaxespad=0.2)
    price.set_ylim(min(0.0, float(prices.rt_sell.min())), 1.45 * float(prices.rt_buy.max()))

    soc = trace.soc_kwh[d]
    fleet = stage.community.fleet
    store.fill_between(
        edges, soc.min(axis=1), soc.max(axis=1), color=_CHARGE, alpha=0.2, linewidth=0, label="all prosumers"
    )
    store.plot(edges, soc.mean(axis=1), color=_CHARGE, linewidth=2.0, label="mean")
    for bound in (fleet.soc_min_kwh.min(), fleet.soc_max_kwh.max()):
        store.axhline(bound, color=_LIMIT, linewidth=1.0, linestyle=(0, (4, 2)))
    store.set_ylabel("kWh")
    store.set_title("State of charge of the batteries (limits dashed)")
    store.set_ylim(0.0, 1.25 * float(fleet.soc_max_kwh.max()))
    store.legend(ncols=2, loc="upper left", fontsize=8.5, borderaxespad=0.2)
    store.set_xlabel(f"hour of the day ({stage.dataset.time_zone})")
    store.set_xlim(0.0, 24.0)
    store.xaxis.set_major_locator(MultipleLocator(3.0))
    return figure


def voltage_picture(stage: Stage, row: Row, reference: Row) -> Figure:
    """Voltage of every bus over all hours of all days: no control beside a policy."""
    feeder = stage.community.feeder
    figure, axes = plt.subplots(1, 2, figsize=(10.0, 4.2), sharex=True, sharey=True, layout="constrained")
    for axis, who in zip(axes, (reference, row), strict=True):
        _voltage_bands(axis, who, np.asarray(feeder.parent_bus), _REFERENCE if who is reference else _DISCHARGE)
        for limit in (feeder.v_min_pu, feeder.v_max_pu):
            axis.axhline(limit, color=_LIMIT, linewidth=1.2, linestyle=(0, (4, 2)))
        share = 100.0 * float(who.metrics.violated_share.mean())
        axis.set_title(f"{row_label(who)}: {share:.2f} % of bus-hours outside")
        axis.set_xlabel("bus (triangles: prosumers)")
        axis.xaxis.set_major_locator(MultipleLocator(4))
    everything = np.concatenate([reference.trace.v_pu.ravel(), row.trace.v_pu.ravel()])
    low = min(float(everything.min()), feeder.v_min_pu)
    high = max(float(everything.max()), feeder.slack_v_pu)
    room = 0.08 * (high - low)
    axes[0].set_ylim(low - 1.6 * room, high + room)
    for axis in axes:
        axis.plot(
            stage.community.fleet.bus, np.full(stage.community.num_prosumers, low - 1.1 * room), "^", color=_INK,
            markersize=5, clip_on=False,
        )  # fmt: skip
    axes[0].set_ylabel("voltage, p.u.")
    axes[0].legend(loc="upper right", fontsize=8.5)
    return figure


def _voltage_bands(axis: Axes, who: Row, parent_bus: FloatArray, colour: str) -> None:
    """Median and bands over days and hours, one stretch of line for each branch of the feeder."""
    v = who.trace.v_pu.reshape(-1, who.trace.v_pu.shape[2])  # [D*H,K]
    lowest, low, middle, high, highest = np.quantile(v, [0.0, 0.05, 0.5, 0.95, 1.0], axis=0)
    bus = np.arange(v.shape[1])
    starts = np.flatnonzero(parent_bus[1:] != bus[:-1]) + 1
    for place, branch in enumerate(np.split(bus, starts)):
        first = place == 0
        axis.fill_between(
            branch, lowest[branch], highest[branch], color=colour, alpha=0.15, linewidth=0,
            label="all hours" if first else None,
        )  # fmt: skip
        axis.fill_between(
            branch, low[branch], high[branch], color=colour, alpha=0.35, linewidth=0,
            label="nine hours in ten" if first else None,
        )  # fmt: skip
        axis.plot(branch, middle[branch], color=colour, linewidth=1.8, label="median" if first else None)


def pareto_picture(boards: Sequence[Board]) -> Figure:
    """Cost against peak of every row, coloured by voltage violations; the front of what nothing else beats is drawn."""
    rows = [*boards[0].anchors, *(row for board in boards for row in board.policies)]
    cost = np.array([row.metrics.cost_ct.mean() for row in rows])
    peak = np.array([row.metrics.peak_kw.mean() for row in rows])
    outside = np.array([100.0 * row.metrics.violated_share.mean() for row in rows])
    figure, axis = plt.subplots(figsize=(8.6, 5.4), layout="constrained")
    policies = [place for place, row in enumerate(rows) if row.entry.kind == "policy"]
    front = [
        i
        for i in policies
        if not any(
            cost[j] <= cost[i] and peak[j] <= peak[i] and (cost[j], peak[j]) != (cost[i], peak[i]) for j in policies
        )
    ]
    front.sort(key=lambda i: float(cost[i]))
    if len(front) > 1:
        axis.plot(cost[front], peak[front], color=_MUTED, linewidth=1.0, linestyle=(0, (4, 2)), zorder=1)
    norm = matplotlib.colors.Normalize(0.0, max(float(outside.max()), 1e-6))
    for kind, marker, size in (("open_loop", "o", 85), ("mpc", "s", 80), ("both", "D", 55)):
        chosen = [i for i, row in enumerate(rows) if row.entry.mode == kind]
        if chosen:
            points = axis.scatter(
                cost[chosen], peak[chosen], c=outside[chosen], norm=norm, cmap="viridis_r", marker=marker, s=size,
                edgecolors=_INK, linewidths=0.9, zorder=3,
            )  # fmt: skip
    figure.colorbar(points, ax=axis, label="bus-hours outside the voltage limits, %", pad=0.02)
    axis.set_xlabel("cost of the community, ct/day")
    axis.set_ylabel("mean daily peak import, kW")
    axis.set_title("Cost against peak: the lower left is better")
    shapes = (("open_loop", "o"), ("mpc", "s"), ("reference and oracles", "D"))
    handles = [
        Line2D([], [], linestyle="none", marker=marker, markerfacecolor="white", markeredgecolor=_INK, label=label)
        for label, marker in shapes
    ]
    axis.legend(handles=handles, loc="best", fontsize=8.5)
    axis.margins(0.18, 0.12)
    _name_points(axis, cost, peak, [row_label(row).partition(" (")[0] for row in rows])
    return figure


def profile_picture(boards: Sequence[Board]) -> Figure:
    """For every policy, the share of days on which its share in J is at least so large: performance profiles."""
    rows = [*boards[0].anchors, *(row for board in boards for row in board.policies)]
    rows = [row for row in rows if row.entry.name != boards[0].reference.entry.name]
    rows.sort(key=lambda row: -row.score.j)
    figure, axis = plt.subplots(figsize=(8.6, 4.6), layout="constrained")
    policies = [row for row in rows if row.entry.kind == "policy"]
    colours = {id(row): f"C{k % _COLOURS}" for k, row in enumerate(policies)}
    again = {id(row) for row in policies[_COLOURS:]}  # their colours are taken: dotted tells them apart
    for row in rows:
        style: Any = {"policy": "-", "reference": ":"}.get(row.entry.kind, "--" if "cost" in row.entry.name else "-.")
        if id(row) in again:
            style = (0, (1, 0.8))
        axis.step(
            PROFILE_THRESHOLDS, 100.0 * row.score.profile, where="mid", color=colours.get(id(row), _MUTED),
            linewidth=2.0 if row.entry.kind == "policy" else 1.3, linestyle=style,
            label=f"{row_label(row)}  {row.score.j:.3f}",
        )  # fmt: skip
    axis.axvline(0.0, color=_REFERENCE, linewidth=1.2)
    axis.text(0.005, 2.0, "no-control", color=_REFERENCE, fontsize=8.5)
    axis.set_xlim(float(PROFILE_THRESHOLDS[0]), float(PROFILE_THRESHOLDS[-1]))
    axis.set_ylim(0.0, 102.0)
    axis.set_xlabel("share of the day in J, scaled so that its mean over the days is J")
    axis.set_ylabel("days at least so good, %")
    axis.set_title("Good and bad days: further right is better, steeper is steadier")
    axis.legend(title="mean (J)", loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5)
    return figure


def _name_points(axis: Axes, x: FloatArray, y: FloatArray, names: Sequence[str]) -> None:
    """A name beside each point, on the first side where it covers neither a point nor another name."""
    figure = axis.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    centres = axis.transData.transform(np.column_stack([x, y]))
    taken = [Bbox.from_bounds(cx - 8.0, cy - 8.0, 16.0, 16.0) for cx, cy in centres]
    legend = axis.get_legend()
    if legend is not None:
        taken.append(legend.get_window_extent())
    sides = ((9, 0, "left", "center"), (-9, 0, "right", "center"), (0, 9, "center", "bottom"), (0, -9, "center", "top"))
    lifts = (0, 13, -13, 26, -26, 39, -39)
    steps = [(dx, dy + lift, ha, va) for lift in lifts for dx, dy, ha, va in sides]
    beside: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "zorder": 4}
    for i, name in enumerate(names):
        for dx, dy, ha, va in steps:
            text = axis.annotate(name, (x[i], y[i]), xytext=(dx, dy), ha=ha, va=va, **beside)
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
            text.remove()
        else:
            axis.annotate(name, (x[i], y[i]), xytext=(9, 0), va="center", **beside)
            continue
        taken.append(box.padded(3.0))  # two names are not to be read as one
