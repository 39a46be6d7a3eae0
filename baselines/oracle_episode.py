"""The days of an episode as one program: what the oracles solve, and how its solution becomes actions.

Each day is a core problem of its own (`core_matrices`) with one scenario, itself: its position, its demand charge, and
a backlog that begins and ends at nothing. Stacked, they make one program over all hours of the episode. One thing runs
through: what a day begins with is in the batteries is what the day before left there. It has a value at the end of the
last day, at that day's prices.

Axis letters: N prosumers, M numbers that an hour's offers consist of, H hours of a day, D days of the episode,
h = D H hours of the episode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.assembly import ABSENT
from prosumer_gym.baselines.core_matrices import CoreColumns, CoreMatrices, build_core
from prosumer_gym.baselines.day_ahead import plan_of
from prosumer_gym.baselines.network import NetworkPenalty
from prosumer_gym.baselines.planning import DayStart, Plan, Scenarios
from prosumer_gym.baselines.solve import Solution
from prosumer_gym.community import Community
from prosumer_gym.errors import UsageError
from prosumer_gym.exogenous import Exogenous


@dataclass(frozen=True, eq=False)
class Episode:
    """Consecutive days of the data, as they came."""

    community: Community
    exogenous: Exogenous
    rows: IntArray
    """Of `exogenous` [D]."""

    @classmethod
    def of(cls, community: Community, exogenous: Exogenous, rows: npt.ArrayLike) -> Episode:
        """The episode of the days `rows`, an array, or of one day, a number. Raises `UsageError`."""
        days = np.atleast_1d(np.asarray(rows))
        if days.ndim != 1 or days.size == 0 or not np.issubdtype(days.dtype, np.integer) or np.any(np.diff(days) != 1):
            raise UsageError(f"episode: its days must be consecutive rows of the data, not {np.asarray(rows).tolist()}")
        if days[0] < 0 or days[-1] >= exogenous.num_days:
            raise UsageError(
                f"episode: rows {days[0]} ... {days[-1]} are not all in the data of {exogenous.num_days} days"
            )
        return cls(community, exogenous, days)

    def __len__(self) -> int:
        return len(self.rows)

    def hourly(self, name: str) -> FloatArray:
        """Data of the field `name`, hour after hour [h,...]."""
        values: FloatArray = getattr(self.exogenous, name)[self.rows]
        return values.reshape(-1, *values.shape[2:])

    def daily(self, values: FloatArray) -> FloatArray:
        """Values of all hours [h,...] by day [D,H,...]."""
        return values.reshape(len(self), self.community.hours_per_day, *values.shape[1:])

    @property
    def passive_kw(self) -> FloatArray:
        """What the community draws where nobody steers, but for the shiftable load [h]."""
        return np.asarray((self.hourly("load_kw") - self.hourly("pv_kw")).sum(axis=1))

    @property
    def gross_demand_kw(self) -> FloatArray:
        """Mean of what the community would draw without sun and control, by day [D]."""
        drawn = self.exogenous.load_kw[self.rows] + self.exogenous.shiftable_ref_kw[self.rows]
        return np.asarray(drawn.sum(axis=2).mean(axis=1))

    def program(self, network: NetworkPenalty | None = None) -> CoreMatrices:
        """Its cheapest course as a program over all hours; voltages priced by a `network` [h] if there is one."""
        hours = self.community.hours_per_day
        return stack_days([
            build_core(
                self.community,
                self._start(row, is_first=place == 0),
                self._scenario(row),
                regulariser=0.0,
                foresight=True,
                terminal=place == len(self) - 1,
                network=network and network.hours(place * hours, (place + 1) * hours),
            )
            for place, row in enumerate(self.rows.tolist())
        ])  # fmt: skip

    def plan(self, matrices: CoreMatrices, solution: Solution) -> Plan:
        """What a solution of its `program` stands for, as the plan of one long day [h,...]."""
        return plan_of(self.community, self._start(int(self.rows[0]), is_first=True), matrices, solution)

    def actions(self, plan: Plan) -> DayActions:
        """A plan of all hours as the actions of its days, stacked."""
        offers = np.stack([plan.offers(hour) for hour in range(len(plan.battery_kw))])
        return DayActions(
            position_kw=np.ascontiguousarray(self.daily(plan.position_kw.T).swapaxes(1, 2)),
            battery_kw=self.daily(plan.battery_kw),
            shiftable_kw=self.daily(plan.shiftable_kw),
            curtail_kw=self.daily(plan.curtail_kw),
            offers=self.daily(offers),
        )

    def _start(self, row: int, *, is_first: bool) -> DayStart:
        """Midnight; what later days find in the batteries is left to `stack_days`."""
        none = np.zeros(self.community.num_prosumers)
        return DayStart(
            start_hour=0,
            soc_kwh=self.community.fleet.soc_initial_kwh if is_first else none,
            backlog_kwh=none,
            connection_peak_kw=none,
            shiftable_ref_kw=self.exogenous.shiftable_ref_kw[row],
            price_da_ct_per_kwh=self.exogenous.price_da_ct_per_kwh[row],
        )

    def _scenario(self, row: int) -> Scenarios:
        days = self.exogenous
        return Scenarios(days.load_kw[[row]], days.pv_kw[[row]], days.price_rt_ct_per_kwh[[row]], np.ones(1))


def stack_days(days: Sequence[CoreMatrices]) -> CoreMatrices:
    """The programs of consecutive days as one, whose columns are those of a day of all their hours.

    What stands for the state of charge at the start of a later day, a zero, gives way to that at the end of the day
    before.
    """
    first_column = np.cumsum([0, *(day.c.size for day in days)])
    first_row = np.cumsum([0, *(day.b.size for day in days)])
    A = sp.block_diag([day.A for day in days], format="csc")
    for place, (before, after) in enumerate(pairwise(days)):
        rows, columns = first_row[place + 1] + after.start_rows, first_column[place] + before.columns.soc[-1]
        A -= sp.csc_matrix((np.ones(rows.size), (rows, columns)), shape=A.shape)

    def joined(name: str) -> FloatArray:
        return np.concatenate([getattr(day, name) for day in days])

    def shifted(name: str) -> IntArray:
        parts = zip((getattr(day.columns, name) for day in days), first_column, strict=False)
        return np.concatenate([np.where(part == ABSENT, ABSENT, part + first) for part, first in parts])

    return CoreMatrices(
        P=sp.block_diag([day.P for day in days], format="csc"),
        c=joined("c"),
        A=A,
        b=joined("b"),
        G=sp.block_diag([day.G for day in days], format="csc"),
        h=joined("h"),
        lb=joined("lb"),
        ub=joined("ub"),
        constant_ct=sum(day.constant_ct for day in days),
        columns=CoreColumns(**{name: shifted(name) for name in CoreColumns._fields}),
        start_rows=days[0].start_rows,
    )
