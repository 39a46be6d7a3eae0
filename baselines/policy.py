"""What a policy is.

A policy meets a day as one day-ahead step (the gate) followed by H real-time steps. It knows the community and the
training history, both through `fit`, and the observations, and nothing else. `TwoStagePolicy` splits `act` into
`plan` and `dispatch`, in kW.

An episode may have several days, one gate after the other, with `reset` before the first of them only: what is
remembered of a day, such as its plan, is to be renewed at the gate.

Axis letters: N prosumers, M numbers that an hour's offers consist of, H hours of a day.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from prosumer_gym.actions import Dispatch, from_kw, position_from_kw
from prosumer_gym.arrays import FloatArray
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.errors import UsageError
from prosumer_gym.reference import no_control_dispatch

Observation = Mapping[str, Any]
"""One observation of the two-stage environment: named arrays, without a batch axis."""
Action = dict[str, FloatArray]
"""day_ahead [N,H], battery, shiftable, curtail [N], trade [M], all in [-1, 1]."""

MODES = ("open_loop", "mpc")
"""How a two-stage policy meets the day: it follows the plan of the gate, or plans the rest of the day every hour."""


@runtime_checkable
class Policy(Protocol):
    """Anything that maps observations to actions; deterministic given the seed of `reset`.

    A class whose constructor takes the keyword `mode` is two-stage: it is made once for each of `MODES`.

    A policy may have an attribute `fallbacks`, a mapping from what it had to fall back to or to accept, such as
    "solver stopped short", to how often since `reset`. What is counted stands in the record and under the table. It is
    for actions that are valid all the same: where there is none, `act` raises, and the runner steps in and counts it.
    """

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn from the training history: train days and their lead-in, nothing else. Called once."""

    def reset(self, seed: int) -> None:
        """Forget every day played so far, and what was counted; called before each episode."""

    def act(self, obs: Observation) -> Action:
        """The action for one observation. Only the part that the observation's stage reads counts."""


def at_gate(obs: Observation) -> bool:
    """Whether the observation is of the day-ahead step."""
    return bool(obs_array(obs, "stage")[0] < 0.5)


def hour_of(obs: Observation) -> int:
    """The hour about to be played; 0 at the gate."""
    return 0 if at_gate(obs) else int(obs_array(obs, "hour")[0])


def obs_array(obs: Observation, name: str) -> FloatArray:
    """One part of an observation."""
    return np.asarray(obs[name], dtype=np.float64)


class TwoStagePolicy(ABC):
    """A policy that commits a day-ahead position and then dispatches hour by hour; both in kW."""

    community: Community
    """Set by `fit`."""

    def fit(self, community: Community, history: Dataset) -> None:
        """Keep the community. Raises `UsageError` when the history is of another community."""
        history.check_community(community)
        self.community = community

    def reset(self, seed: int) -> None:  # noqa: B027 - a policy without memory has nothing to forget
        """Forget every day played so far. No baseline draws random numbers, so the seed is not used."""

    @abstractmethod
    def plan(self, obs: Observation) -> FloatArray:
        """The day-ahead position, + buys [N,H], from an observation at the gate."""

    @abstractmethod
    def dispatch(self, obs: Observation) -> Dispatch:
        """What to do in the hour that a real-time observation shows."""

    def act(self, obs: Observation) -> Action:
        """`plan` at the gate, `dispatch` after it; the part that the stage does not read is neutral."""
        if not hasattr(self, "community"):
            raise UsageError(f"{type(self).__name__}: act was called before fit; fit it to a community and a history")
        community, hour = self.community, hour_of(obs)
        if at_gate(obs):
            position = position_from_kw(community, self.plan(obs))
            dispatch = no_control_dispatch(obs_array(obs, "shiftable_ref_kw")[0], community.num_offers)
        else:
            position = np.zeros((community.num_prosumers, community.hours_per_day))
            dispatch = self.dispatch(obs)
        return {"day_ahead": position, **from_kw(community, dispatch, obs_array(obs, "pv_kw")[hour])}
