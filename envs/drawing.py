"""How a scene is drawn: the map of the feeder, the prosumers' cards, and the day so far.

Places on the map are pixels. Colours are Okabe and Ito's, which the colour-blind can tell apart; what matters is also
said by a shape or a number. Axis letters: N prosumers, E undirected trade edges, H hours of a day, K buses.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 1280, 800, 100
MAP = (0.0, 0.27, 1.0, 0.62)
"""Left, bottom, width and height of the map in the figure."""
CARD = (118.0, 62.0)
"""Width and height of a prosumer's card."""
KEY = (1006.0, 426.0, 1270.0, 496.0)
"""Left, bottom, right and top of the key of the voltages on the map."""
HEADROOM = 90.0
"""What buses keep free at the upper edge of the map: the key, or a card above the uppermost row."""

_INK, _SOFT, _FAINT, _PAPER = "#22303c", "#64727d", "#dfe5e9", "#ffffff"
_SUN, _LOAD, _BATTERY, _TRADE, _PRICE, _ALARM = "#e69f00", "#56606a", "#009e73", "#b0418c", "#0072b2", "#b2182b"
_LINE, _BACKWARDS = "#9fb0bb", "#e69f00"
_NO_FLOW_KW = 0.05


@dataclass(frozen=True, eq=False)
class Scene:
    """What a picture shows: one community after an hour, or at the day-ahead step (hour -1)."""

    community: Community
    dataset: str
    date: np.datetime64
    hour: int
    load_kw: FloatArray
    """Must-run and shiftable load [N]."""
    pv_kw: FloatArray
    """PV that was used [N]."""
    battery_kw: FloatArray
    """[N]"""
    soc_kwh: FloatArray
    """[N]"""
    net_import_kw: FloatArray
    """[N]"""
    trade_kw: FloatArray
    """[E]"""
    v_pu: FloatArray
    """[K]"""
    flow_kw: FloatArray
    """Into each bus from its parent, losses left out [K]."""
    slack_kw: float
    losses_kw: float
    converged: bool
    cost_ct: float
    """Of the hour, all prosumers."""
    episode_cost_ct: float
    price_da_ct_per_kwh: FloatArray
    """Whole day [H]."""
    price_rt_ct_per_kwh: FloatArray
    """Hours played [<=H]."""
    day_load_kw: FloatArray
    """Sum of the must-run loads in the hours played [<=H]."""
    day_pv_kw: FloatArray
    """Sum of the available PV [<=H]."""
    day_exchange_kw: FloatArray
    """Sum of the net imports [<=H]."""
    position_kw: FloatArray
    """Sum of the committed positions [H]; zeros before the commitment."""


def draw_scene(
    figure: Figure, scene: Scene, places: FloatArray, paths: list[FloatArray], cards: FloatArray | None
) -> None:
    """Draw everything into an empty figure.

    Args:
        figure: of WIDTH x HEIGHT pixels.
        scene: what to show.
        places: of the buses on the map [K,2].
        paths: lines of the feeder, one for each bus but the substation.
        cards: centres of the prosumers' cards [N,2], or None when there are too many for cards.
    """
    figure.set_facecolor(_PAPER)
    _draw_header(figure, scene)
    chart = figure.add_axes(MAP)
    chart.set(xlim=(0, WIDTH * MAP[2]), ylim=(0, HEIGHT * MAP[3]))
    chart.axis("off")
    _draw_lines(chart, scene, paths)
    _draw_trades(chart, scene, places)
    voltage_colours = _draw_buses(chart, scene, places, cards)
    if cards is not None:
        for n, centre in enumerate(cards):
            _draw_card(chart, scene, n, places[scene.community.fleet.bus[n]], centre)
    _draw_key(figure, chart, scene, voltage_colours)
    _draw_day(figure, scene)


def _draw_header(figure: Figure, scene: Scene) -> None:
    day = date.fromisoformat(str(scene.date))
    title = f"{day:%a} {day.day} {day:%B %Y}"
    if scene.hour < 0:
        title += ",  day-ahead step"
    else:
        begin, length = scene.hour * scene.community.dt_h, scene.community.dt_h
        title += f",  {_clock(begin)} - {_clock(begin + length)}"
    figure.text(0.016, 0.955, title, fontsize=16, fontweight="bold", color=_INK, va="center")
    stage = f"{scene.dataset}  |  {scene.community.name}"
    units = scene.community.fleet.units
    if units.max() > 1:  # only the feeder sees them all
        count = f"{units.max()}" if units.min() == units.max() else f"{units.min()} to {units.max()}"
        stage += f"  |  {count} units a node, figures of one"
    figure.text(0.016, 0.918, stage, fontsize=9.5, color=_SOFT, va="center")
    played = scene.hour >= 0
    lowest = f"{scene.v_pu.min():.3f}" if scene.converged else "collapse"
    facts = [
        ("day-ahead", f"{scene.price_da_ct_per_kwh[max(scene.hour, 0)]:.1f}", "ct/kWh"),
        ("real time", f"{scene.price_rt_ct_per_kwh[-1]:.1f}" if played else "-", "ct/kWh"),
        ("exchange", f"{scene.net_import_kw.sum():+.0f}" if played else "-", "kW"),
        ("losses", f"{scene.losses_kw:.1f}" if played else "-", "kW"),
        ("lowest voltage", lowest if played else "-", "p.u."),
        ("hour's cost", f"{scene.cost_ct:,.0f}", "ct"),
        ("cost so far", f"{scene.episode_cost_ct:,.0f}", "ct"),
    ]
    x = 0.985
    for name, value, unit in reversed(facts):
        figure.text(x, 0.957, value, fontsize=13, fontweight="bold", color=_INK, ha="right", va="center")
        figure.text(x, 0.924, f"{name}, {unit}", fontsize=8, color=_SOFT, ha="right", va="center")
        x -= 0.016 + 0.0047 * len(f"{name}, {unit}")


def _draw_lines(chart: Axes, scene: Scene, paths: list[FloatArray]) -> None:
    nominal_kw = max(float(np.abs(scene.community.feeder.p_kw).sum()), 1.0)
    for bus, path in enumerate(paths, start=1):
        flow_kw = scene.flow_kw[bus]
        width = 1.2 + 9.0 * np.sqrt(min(abs(flow_kw) / nominal_kw, 1.0))
        colour = _BACKWARDS if flow_kw < -_NO_FLOW_KW else _LINE
        chart.plot(
            path[:, 0], path[:, 1], color=colour, lw=width, solid_capstyle="round", solid_joinstyle="round", zorder=2
        )


def _draw_trades(chart: Axes, scene: Scene, places: FloatArray) -> None:
    from matplotlib.patches import FancyArrowPatch

    graph, bus = scene.community.graph, scene.community.fleet.bus
    for e in np.flatnonzero(np.abs(scene.trade_kw) > _NO_FLOW_KW).tolist():
        trade_kw = float(scene.trade_kw[e])
        buyer, seller = int(graph.first[e]), int(graph.second[e])
        if trade_kw < 0:
            buyer, seller = seller, buyer
        begin, end = places[bus[seller]], places[bus[buyer]]
        bend = 0.22 if begin[0] <= end[0] else -0.22
        share = abs(trade_kw) / max(float(graph.limit_kw[e]), 1e-9)
        chart.add_patch(
            FancyArrowPatch(
                tuple(begin), tuple(end), connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=11,
                shrinkA=11, shrinkB=11, lw=0.9 + 2.0 * share, color=_TRADE, alpha=0.8, zorder=3,
            )
        )  # fmt: skip
        # the middle of matplotlib's arc: half the way, and half of the bend to the side
        middle = 0.5 * (begin + end) + 0.5 * bend * np.array([end[1] - begin[1], begin[0] - end[0]])
        chart.text(
            middle[0], middle[1], f"{abs(trade_kw):.1f}", fontsize=7.5, color=_TRADE, ha="center", va="center",
            bbox={"fc": _PAPER, "ec": "none", "pad": 0.8}, zorder=7,
        )  # fmt: skip


def _draw_buses(chart: Axes, scene: Scene, places: FloatArray, cards: FloatArray | None) -> Any:
    """Returns what maps voltages to colours, for the key."""
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.patches import Wedge

    feeder, fleet = scene.community.feeder, scene.community.fleet
    margin = 0.35 * (feeder.v_max_pu - feeder.v_min_pu)
    middle = 0.5 * (feeder.v_min_pu + feeder.v_max_pu)
    colours = ScalarMappable(
        TwoSlopeNorm(middle, feeder.v_min_pu - margin, feeder.v_max_pu + margin), mpl.colormaps["RdYlBu"]
    )
    known = scene.hour >= 0
    prosumers = set(fleet.bus.tolist())
    for bus, (x, y) in enumerate(places):
        v = scene.v_pu[bus]
        below, above = known and bool(v < feeder.v_min_pu), known and bool(v > feeder.v_max_pu)
        face: Any = colours.to_rgba(v) if known else _PAPER
        big = bus in prosumers or bus == 0
        chart.plot(
            x, y, "s" if bus == 0 else "o", ms=15.5 if big else 12.0, mfc=face, zorder=5,
            mec=_ALARM if below or above else _INK if big else _SOFT,
            mew=2.6 if below or above else 1.8 if big else 0.8,
        )  # fmt: skip
        if below or above:  # said by shape as well as by colour
            chart.plot(x + 11, y + 11, "v" if below else "^", ms=7, mfc=_ALARM, mec=_PAPER, mew=0.7, zorder=6)
        dark = known and sum(face[:3]) < 1.35
        chart.text(
            x, y - 0.5, str(bus), fontsize=6.8, ha="center", va="center_baseline", color=_PAPER if dark else _INK,
            zorder=6,
        )  # fmt: skip
    if cards is None:  # the state of charge as a ring
        share = _charge(scene)
        for n, bus in enumerate(fleet.bus.tolist()):
            chart.add_patch(Wedge(tuple(places[bus]), 13, 90 - 360 * share[n], 90, width=3, color=_BATTERY, zorder=4))
    return colours


def _charge(scene: Scene) -> FloatArray:
    """State of charge as a share of the usable range [N]."""
    fleet = scene.community.fleet
    room = np.maximum(fleet.soc_max_kwh - fleet.soc_min_kwh, 1e-9)
    return np.clip((scene.soc_kwh - fleet.soc_min_kwh) / room, 0.0, 1.0)


def _draw_card(chart: Axes, scene: Scene, n: int, anchor: FloatArray, centre: FloatArray) -> None:
    from matplotlib.patches import FancyBboxPatch, Rectangle

    (width, height), (x, y) = CARD, centre
    left, top = x - width / 2, y + height / 2
    chart.plot([anchor[0], x], [anchor[1], y], color=_SOFT, lw=0.8, ls=(0, (2, 2)), zorder=3.5)
    chart.add_patch(
        FancyBboxPatch(
            (left, y - height / 2), width, height, boxstyle="round,pad=0,rounding_size=5", fc=_PAPER, ec="#b9c5cd",
            lw=1.0, zorder=8,
        )
    )  # fmt: skip
    small: dict[str, Any] = {"fontsize": 7.5, "va": "center", "zorder": 9}
    played = scene.hour >= 0
    chart.text(left + 7, top - 12, f"P{n}", fontweight="bold", color=_INK, **small)
    if played:
        net = scene.net_import_kw[n]
        chart.text(left + width - 7, top - 12, f"{_signed(net)} kW", fontweight="bold", ha="right", color=_INK, **small)
        row = top - 28
        chart.plot(left + 11, row, "o", ms=5, color=_SUN, zorder=9)
        chart.text(left + 18, row, f"{scene.pv_kw[n]:.1f}", color=_INK, **small)
        chart.plot(left + width / 2 + 5, row, "s", ms=4.5, color=_LOAD, zorder=9)
        chart.text(left + width / 2 + 12, row, f"{scene.load_kw[n]:.1f}", color=_INK, **small)
    share, bar_y, bar_width = float(_charge(scene)[n]), y - height / 2 + 8, width - 58
    chart.add_patch(Rectangle((left + 7, bar_y), bar_width, 12, fc=_FAINT, ec="none", zorder=9))
    chart.add_patch(Rectangle((left + 7, bar_y), bar_width * share, 12, fc=_BATTERY, ec="none", zorder=9.5))
    inside = share > 0.5
    chart.text(
        left + 7 + bar_width * share + (-4 if inside else 4), bar_y + 6, f"{100 * share:.0f} %", fontsize=7,
        va="center_baseline", ha="right" if inside else "left", color=_PAPER if inside else _INK, zorder=10,
    )  # fmt: skip
    if played:
        flow = _signed(scene.battery_kw[n]) if abs(scene.battery_kw[n]) > _NO_FLOW_KW else "idle"
        chart.text(left + width - 7, bar_y + 6, flow, ha="right", color=_INK, **small)


def _draw_key(figure: Figure, chart: Axes, scene: Scene, colours: Any) -> None:
    from matplotlib.lines import Line2D

    feeder = scene.community.feeder
    shapes = [
        Line2D([], [], marker="o", ls="", color=_SUN, ms=5, label="PV used, kW"),
        Line2D([], [], marker="s", ls="", color=_LOAD, ms=4.5, label="load with shiftable, kW"),
        Line2D([], [], color=_BATTERY, lw=6, solid_capstyle="butt", label="state of charge, battery kW (+ charges)"),
        Line2D([], [], color=_TRADE, lw=2, label="trade, seller to buyer, kW"),
        Line2D([], [], color=_LINE, lw=4, label="flow from the substation"),
        Line2D([], [], color=_BACKWARDS, lw=4, label="flow towards it"),
        Line2D([], [], marker="v", ls="", color=_ALARM, ms=6.5, label="voltage too low (up: too high)"),
    ]
    chart.legend(
        handles=shapes, loc="lower center", bbox_to_anchor=(0.5, -0.085), ncols=7, fontsize=8, frameon=False,
        labelcolor=_INK, handletextpad=0.7, columnspacing=1.4, handlelength=1.3,
    )  # fmt: skip
    bar = figure.colorbar(colours, cax=figure.add_axes((0.795, 0.835, 0.185, 0.014)), orientation="horizontal")
    bar.set_ticks([feeder.v_min_pu, 0.5 * (feeder.v_min_pu + feeder.v_max_pu), feeder.v_max_pu])
    bar.ax.tick_params(labelsize=8, colors=_SOFT, length=3, pad=2)
    bar.ax.spines["outline"].set_visible(False)
    for limit in (feeder.v_min_pu, feeder.v_max_pu):
        bar.ax.axvline(limit, color=_INK, lw=1.5)
    bar.ax.set_title("voltage of the buses and its limits, p.u.", fontsize=8.5, color=_SOFT, pad=3)


def _draw_day(figure: Figure, scene: Scene) -> None:
    dt_h = scene.community.dt_h
    edges = np.arange(len(scene.price_da_ct_per_kwh) + 1) * dt_h
    played = edges[: len(scene.price_rt_ct_per_kwh) + 1]
    panels = [figure.add_axes((left, 0.052, 0.285, 0.135)) for left in (0.036, 0.369, 0.702)]
    titles = ("prices, ct/kWh", "PV and load, kW", "exchange, kW")
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, fontsize=9, color=_SOFT, loc="left", pad=5)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(_SOFT)
        panel.tick_params(labelsize=8, colors=_SOFT, length=2)
        panel.grid(axis="y", color=_FAINT, lw=0.7)
        panel.set_axisbelow(True)
        panel.set_xlim(0, 24)
        panel.set_xticks(range(0, 25, 3))
        if scene.hour >= 0:
            panel.axvspan(scene.hour * dt_h, (scene.hour + 1) * dt_h, color="#eef1f4", zorder=0)
    prices, power, exchange = panels
    prices.stairs(scene.price_da_ct_per_kwh, edges, color=_PRICE, lw=1.8, baseline=None, label="day-ahead")
    power.stairs(scene.day_pv_kw, played, color=_SUN, lw=1.8, baseline=None, label="PV")
    power.stairs(scene.day_load_kw, played, color=_LOAD, lw=1.8, baseline=None, label="must-run load")
    exchange.stairs(scene.position_kw, edges, color=_PRICE, lw=1.8, baseline=None, label="day-ahead position")
    if scene.hour >= 0:
        prices.stairs(scene.price_rt_ct_per_kwh, played, color=_ALARM, lw=1.8, baseline=None, label="real time")
        exchange.bar(played[:-1], scene.day_exchange_kw, dt_h * 0.86, align="edge", color=_LINE, label="drawn")
        exchange.axhline(0, color=_SOFT, lw=0.8)
    for panel, empty in zip(
        panels, (False, scene.hour < 0, scene.hour < 0 and not scene.position_kw.any()), strict=True
    ):
        if empty:
            panel.set_yticks([])
        low, high = panel.get_ylim()
        panel.set_ylim(low, high + 0.12 * (high - low))
        panel.legend(fontsize=8, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1.02, 0.97),
                     labelcolor=_INK, handlelength=1.4, columnspacing=1.2)  # fmt: skip


def _clock(hour: float) -> str:
    minutes = round(hour * 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _signed(power_kw: float) -> str:
    return f"{round(power_kw, 1) + 0.0:+.1f}"  # never -0.0
