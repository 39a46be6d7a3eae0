"""A picture of an hour: the feeder with its voltages and flows, the prosumers, their trades, and the day so far.

Needs matplotlib (the extra `plots`), which is imported only when a picture is made.

Axis letters: N prosumers, E undirected trade edges, H hours of a day, K buses.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community
from prosumer_gym.envs.action import Action
from prosumer_gym.envs.drawing import CARD, DPI, HEADROOM, HEIGHT, KEY, MAP, WIDTH, Scene, draw_scene
from prosumer_gym.envs.feeder_layout import branch_paths, bus_places, card_places
from prosumer_gym.envs.game import Game
from prosumer_gym.envs.observation import Observation
from prosumer_gym.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from prosumer_gym.envs.single import TwoStageEnv

Image = npt.NDArray[np.uint8]

_MOST_CARDS = 14


def scene_of(game: Game, lane: int = 0) -> Scene:
    """What a lane of the game looks like now."""
    dataset, community, result = game.dataset, game.community, game.result
    day, hour = int(game.day[lane]), int(game.hour[lane])
    num_prosumers, num_buses = community.num_prosumers, community.feeder.num_buses
    soc_kwh, played = game.soc_kwh[:, lane].copy(), hour + 1
    nobody, nowhere = np.zeros(num_prosumers), np.zeros(num_buses)
    inside = hour >= 0
    shiftable_kw = result.shiftable_kw[:, lane] if inside else nobody
    net_import_kw = result.net_import_kw[:, lane].copy() if inside else nobody
    return Scene(
        community=community,
        dataset=dataset.id,
        date=dataset.dates[day],
        hour=hour,
        load_kw=dataset.load_kw[day, hour] + shiftable_kw if inside else nobody,
        pv_kw=dataset.pv_kw[day, hour] - result.curtail_kw[:, lane] if inside else nobody,
        battery_kw=result.battery_kw[:, lane].copy() if inside else nobody,
        soc_kwh=soc_kwh,
        net_import_kw=net_import_kw,
        trade_kw=result.trade_kw[:, lane].copy() if inside else np.zeros(community.num_edges),
        v_pu=result.v_pu[:, lane].copy() if inside else nowhere,
        flow_kw=_flows_kw(community, net_import_kw, float(dataset.passive_pu[day, hour])) if inside else nowhere,
        slack_kw=float(result.slack_kw[lane]) if inside else 0.0,
        losses_kw=float(result.losses_kw[lane]) if inside else 0.0,
        converged=bool(result.converged[lane]) if inside else True,
        cost_ct=float(result.community_cost_ct[lane]) if inside else 0.0,
        episode_cost_ct=float(game.episode_cost_ct[lane]),
        price_da_ct_per_kwh=dataset.price_da_ct_per_kwh[day],
        price_rt_ct_per_kwh=dataset.price_rt_ct_per_kwh[day, :played],
        day_load_kw=dataset.load_kw[day, :played].sum(axis=1),
        day_pv_kw=dataset.pv_kw[day, :played].sum(axis=1),
        day_exchange_kw=game.exchange_kw[lane, :played].copy(),
        position_kw=game.position_kw[lane].copy(),
    )


def _flows_kw(community: Community, net_import_kw: FloatArray, passive_pu: float) -> FloatArray:
    """Active power into each bus from its parent, losses left out [K]; good enough for the width of a line."""
    feeder, fleet = community.feeder, community.fleet
    flow_kw = feeder.p_kw * passive_pu
    np.add.at(flow_kw, fleet.bus, net_import_kw * fleet.units)
    for bus in feeder.tables.order[:0:-1]:
        flow_kw[feeder.parent_bus[bus]] += flow_kw[bus]
    return flow_kw


class Renderer:
    """Draws scenes of one community, always of the same size. Pickles without its window."""

    def __init__(self, community: Community, *, window: bool = False) -> None:
        self.community = community
        self.window = window
        width, height = WIDTH * MAP[2], HEIGHT * MAP[3]
        self._places = bus_places(community.feeder, width, height, HEADROOM)
        self._paths = branch_paths(community.feeder, self._places)
        anchors = self._places[community.fleet.bus]
        self._cards = (
            card_places(anchors, self._places, self._paths, CARD, (width, height), KEY)
            if community.num_prosumers <= _MOST_CARDS
            else None
        )
        self._figure: Figure | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_figure": None}

    def image(self, scene: Scene) -> Image:
        """The picture as an array `[HEIGHT, WIDTH, 3]`."""
        figure = self._drawn(scene)
        canvas: Any = figure.canvas
        canvas.draw()
        return np.array(np.asarray(canvas.buffer_rgba())[:, :, :3])

    def show(self, scene: Scene) -> None:
        """The picture in matplotlib's window; on a machine without a screen it is drawn and nothing is seen."""
        figure = self._drawn(scene)
        canvas: Any = figure.canvas
        canvas.draw_idle()
        canvas.flush_events()

    def close(self) -> None:
        """Close the window, if there is one."""
        if self._figure is not None and self.window:
            from matplotlib import pyplot

            pyplot.close(self._figure)
        self._figure = None

    def _drawn(self, scene: Scene) -> Figure:
        if self._figure is None:
            self._figure = _new_figure(self.window)
        self._figure.clear()
        draw_scene(self._figure, scene, self._places, self._paths, self._cards)
        return self._figure


def _new_figure(window: bool) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("rendering needs matplotlib; run pip install '.[plots]' in the checkout") from None
    size = (WIDTH / DPI, HEIGHT / DPI)
    if not window:
        figure = Figure(figsize=size, dpi=DPI)
        FigureCanvasAgg(figure)
        return figure
    from matplotlib import pyplot

    figure = pyplot.figure("prosumer-gym", figsize=size, dpi=DPI)
    if figure.canvas.required_interactive_framework:  # none on a machine without a screen
        figure.show()
    return figure


def save_picture(
    path: str | Path, env: TwoStageEnv, act: Callable[[Observation], Action], day: int | str, hour: int
) -> Path:
    """Play `day` with `act` until `hour` has been played, and save the picture as PNG. Returns the path.

    Raises:
        UsageError: a day that may not be played, an hour that the day does not have, or no matplotlib.
    """
    if not 0 <= hour < env.community.hours_per_day:
        raise UsageError(f"hour: {hour} is not one of 0 ... {env.community.hours_per_day - 1}")
    obs, _ = env.reset(seed=0, options={"day": day})
    for _ in range(hour + 2):
        obs, *_ = env.step(dict(act(obs)))
    renderer = Renderer(env.community)
    image = renderer.image(scene_of(env.game))
    from matplotlib.image import imsave

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    imsave(str(path), image)
    return Path(path)
