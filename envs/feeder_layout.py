"""Where to draw what: a radial feeder as rows of buses, and a place beside its bus for each prosumer's card.

Axis letters: K buses, N prosumers. Places are in drawing units (pixels of the map), x to the right and y upwards.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.feeder import Feeder


def rows_of_buses(feeder: Feeder) -> tuple[IntArray, IntArray]:
    """Column and row of each bus [K].

    The column is the number of branches to the substation. At every bus the longest branch goes straight on; each
    other one gets the nearest row, above or below, that is free over its length, on the emptier side.
    """
    num_buses = feeder.num_buses
    order, parent = feeder.tables.order, feeder.parent_bus
    children: list[list[int]] = [[] for _ in range(num_buses)]
    column = np.zeros(num_buses, np.int64)
    reach = np.zeros(num_buses, np.int64)  # branches from a bus to the end of its longest path
    for bus in order[1:].tolist():
        children[parent[bus]].append(bus)
        column[bus] = column[parent[bus]] + 1
    for bus in order[:0:-1].tolist():
        reach[parent[bus]] = max(reach[parent[bus]], reach[bus] + 1)

    row = np.zeros(num_buses, np.int64)
    taken: dict[int, list[tuple[float, float]]] = {0: [(0.0, float(reach[0]))]}
    waiting = [0]
    while waiting:
        bus = waiting.pop(0)
        longest_first = sorted(children[bus], key=lambda child: (-reach[child], child))
        for child in longest_first[:1]:
            row[child] = row[bus]
        for child in longest_first[1:]:
            span = (column[bus] + 0.5, float(column[child] + reach[child]))
            row[child] = _free_row(taken, int(row[bus]), span)
            taken.setdefault(int(row[child]), []).append(span)
        waiting.extend(longest_first)
    return column, row


def _free_row(taken: dict[int, list[tuple[float, float]]], origin: int, span: tuple[float, float]) -> int:
    """The nearest row to `origin` that is free over `span`; of two, the one with less on it, then the upper one."""
    distance = 0
    while True:
        distance += 1
        sides = [origin + distance, origin - distance]
        if origin != 0:
            sides = [origin + distance if origin > 0 else origin - distance]  # away from the trunk
        free = [row for row in sides if all(end < span[0] or span[1] < begin for begin, end in taken.get(row, []))]
        if free:
            return min(free, key=lambda row: sum(end - begin for begin, end in taken.get(row, [])))


def bus_places(feeder: Feeder, width: float, height: float, headroom: float) -> FloatArray:
    """Place of each bus [K,2] in a map of that size, none within `headroom` of its upper edge."""
    column, row = rows_of_buses(feeder)
    x = width * (column + 0.6) / (column.max() + 1.2)
    low, high = int(row.min()), int(row.max())
    margin = 0.85 * height / (high - low + 1.7)
    top = height - max(margin, headroom)
    y = np.minimum(margin + (top - margin) * (row - low) / max(high - low, 1), top)  # rounding stays below the edge
    return np.stack([x, y], axis=1)


def branch_paths(feeder: Feeder, places: FloatArray) -> list[FloatArray]:
    """For each bus but the substation the corner points of the line that feeds it, from its parent [..,2]."""
    paths = []
    for bus in range(1, feeder.num_buses):
        (x0, y0), (x1, y1) = places[feeder.parent_bus[bus]], places[bus]
        middle = 0.5 * (x0 + x1)
        corners = [(x0, y0), (x1, y1)] if y0 == y1 else [(x0, y0), (middle, y0), (middle, y1), (x1, y1)]
        paths.append(np.array(corners))
    return paths


def card_places(
    anchors: FloatArray,
    obstacles: FloatArray,
    paths: list[FloatArray],
    card: tuple[float, float],
    size: tuple[float, float],
    taken: tuple[float, float, float, float],
) -> FloatArray:
    """Centre of each prosumer's card [N,2]: in the map, clear of buses, lines and other cards, and near its bus.

    Args:
        anchors: the prosumers' buses [N,2].
        obstacles: all buses [K,2].
        paths: the lines, as `branch_paths`.
        card: width and height of a card.
        size: width and height of the map.
        taken: left, bottom, right and top of what else stands on the map.
    """
    along = [_points_along(path) for path in paths]
    points = np.concatenate([obstacles, *along]) if along else obstacles
    half = np.array(card) / 2.0
    low, high = half + 2.0, np.array(size) - half - 2.0
    corners = np.array(taken)
    key, key_half = 0.5 * (corners[:2] + corners[2:]), 0.5 * (corners[2:] - corners[:2])
    beside = [
        np.array([dx * half[0], side * (half[1] + gap)])
        for gap in (18.0, 30.0, 46.0, 70.0)
        for dx in (0.0, 0.6, -0.6, 1.2, -1.2)
        for side in (1.0, -1.0)
    ]
    elsewhere = [np.array([x, y]) for x in np.arange(low[0], high[0], 20.0) for y in np.arange(low[1], high[1], 20.0)]
    placed: list[FloatArray] = []
    for anchor in anchors:
        best, least = anchor, np.inf
        choices = [(np.clip(anchor + offset, low, high), float(rank)) for rank, offset in enumerate(beside)]
        choices += [(centre, 60.0 + 0.25 * float(np.hypot(*(centre - anchor)))) for centre in elsewhere]
        for centre, trouble in choices:
            if trouble >= least:
                continue
            covered = np.all(np.abs(points - centre) < half + 9.0, axis=1).sum()
            hidden = _overlap(centre, key, half + key_half) + sum(
                _overlap(centre, other, 2.0 * half + 6.0) for other in placed
            )
            total = trouble + 40.0 * float(covered) + hidden
            if total < least:
                best, least = centre, total
        placed.append(best)
    return np.array(placed).reshape(-1, 2)


def _overlap(one: FloatArray, other: FloatArray, reach: FloatArray) -> float:
    """Area that two rectangles share whose centres must be `reach` apart, one way or the other, not to."""
    return float(np.prod(np.clip(reach - np.abs(one - other), 0.0, None)))


def _points_along(path: FloatArray) -> FloatArray:
    steps = np.linspace(0.0, 1.0, 9)[:, np.newaxis]
    return np.concatenate([a + steps * (b - a) for a, b in pairwise(path)])
