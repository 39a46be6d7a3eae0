"""The feeder in a plan: what leaves the voltage limits costs something.

Voltages are planned with by the linear model of Baran and Wu ("LinDistFlow", losses neglected): squared voltages are
linear in the loads, v^2 = v0^2 - R p - X q. How far a bus lies beyond a limit w is read off its square, for the lower
one (w^2 - v^2) / (2 w): right at the limit, and off by half the squared distance elsewhere. What lies beyond a limit,
which is drawn tighter by a margin for what the model neglects, is priced.

The price is put on the *expected* loads of an hour, the scenarios' mean, each prosumer's with its own weights. That is
one row for each bus and limit whatever the number of scenarios, the same for every way of weighting them (where each
prosumer has weights of its own, the scenarios have no probability in common), and, as squared voltages are linear, it
is the expected square that is kept within the limits. It does not see that a load beyond the expected one hurts more
than one below it helps: the margin is for that too.

Axis letters: N prosumers, K buses, H hours of a day, h remaining hours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from prosumer_gym.arrays import BoolArray, FloatArray
from prosumer_gym.community import Community, Fleet
from prosumer_gym.errors import UsageError
from prosumer_gym.power_flow import lindistflow, solve_power_flow

PRICE_CT_PER_PU_H = 2e4
MARGIN_PU = 0.002
"""What policies plan with."""

_STEP_KW = 5.0
"""Of the differences that a tangent is made of: far above rounding, and their error is of its square."""


class VoltageSide(NamedTuple):
    """How far each bus lies beyond one of its limits, p.u., negative inside: linear in what the prosumers do."""

    idle_pu: FloatArray
    """With the rest of the feeder alone [h,K]."""
    per_import: FloatArray
    """For each kW of a prosumer's net import, p.u./kW [h,K,N]."""
    per_consumption: FloatArray
    """For each kW that it consumes, load and shiftable load, for the reactive power that goes with it [h,K,N]."""

    @property
    def is_upper(self) -> bool:
        """Whether importing more helps."""
        return bool(np.any(self.per_import < 0.0))

    def beyond_pu(self, net_import_kw: FloatArray, consumption_kw: FloatArray) -> FloatArray:
        """How far each bus lies beyond the limit [h,K]; inputs [h,N]."""
        return np.asarray(
            self.idle_pu
            + np.einsum("hkn,hn->hk", self.per_import, net_import_kw)
            + np.einsum("hkn,hn->hk", self.per_consumption, consumption_kw)
        )


@dataclass(frozen=True, eq=False)
class NetworkPenalty:
    """What a plan pays for voltages beyond their limits, as the linear model has them. Raises `UsageError`."""

    price_ct_per_pu_h: float
    """For each bus and hour; 0 is a plan that knows no network."""
    sides: tuple[VoltageSide, ...]
    """The lower limits and the upper; of any number of them the one that a bus is furthest beyond counts."""

    def __post_init__(self) -> None:
        if not (np.isfinite(self.price_ct_per_pu_h) and self.price_ct_per_pu_h >= 0):
            raise UsageError(f"network penalty: price {self.price_ct_per_pu_h} must be finite and not negative")

    @classmethod
    def lindistflow(
        cls, community: Community, passive_pu: FloatArray, *, price_ct_per_pu_h: float, margin_pu: float
    ) -> Self:
        """The penalty by LinDistFlow.

        Args:
            community: who is where on which feeder.
            passive_pu: what the rest of the feeder is expected to consume in the remaining hours, as a multiple of its
                nominal load [h].
            price_ct_per_pu_h: of the excess beyond the tightened limits.
            margin_pu: by how much both limits are tightened.

        Raises:
            UsageError: a price or margin that is negative or not finite, or limits that leave nothing between them.
        """
        feeder = community.feeder
        lowest, highest = feeder.v_min_pu + margin_pu, feeder.v_max_pu - margin_pu
        if not (margin_pu >= 0 and lowest < highest):
            raise UsageError(
                f"network penalty: margin {margin_pu} p.u. must not be negative and must leave something between the "
                f"limits {feeder.v_min_pu} and {feeder.v_max_pu}"
            )
        model, base_kva = lindistflow(feeder), 1000.0 * feeder.base_mva
        at = community.fleet.bus
        per_active = model.r[:, at] * community.fleet.units / base_kva  # loss of squared voltage per kW [K,N]
        per_reactive = model.x[:, at] * community.fleet.units / base_kva
        passive_drop = (model.r @ feeder.p_kw + model.x @ feeder.q_kvar) / base_kva  # [K]
        square = feeder.slack_v_pu**2 - np.multiply.outer(np.asarray(passive_pu, dtype=np.float64), passive_drop)

        def side(limit_pu: float, sign: float) -> VoltageSide:
            """Sign +1 of the lower limit, which loads take the voltage beyond; -1 of the upper."""
            scale = sign / (2.0 * limit_pu)
            shape = (*square.shape, len(community.fleet))
            return VoltageSide(
                scale * (limit_pu**2 - square),
                np.broadcast_to(scale * per_active, shape),
                np.broadcast_to(scale * per_reactive * _reactive_ratio(community), shape),
            )

        return cls(price_ct_per_pu_h, (side(lowest, 1.0), side(highest, -1.0)))

    @classmethod
    def tangent(
        cls,
        community: Community,
        passive_pu: FloatArray,
        net_import_kw: FloatArray,
        consumption_kw: FloatArray,
        *,
        price_ct_per_pu_h: float,
        margin_pu: float,
    ) -> Self:
        """The penalty by the AC power flow, made linear around what the prosumers do [h,N].

        Losses included, it is right there and to first order around it. Hours without a power flow stay those of
        LinDistFlow. Other arguments and errors: `lindistflow`.
        """
        rough = cls.lindistflow(community, passive_pu, price_ct_per_pu_h=price_ct_per_pu_h, margin_pu=margin_pu)
        v_pu, converged = ac_voltages(community, passive_pu, net_import_kw, consumption_kw)
        steps = _STEP_KW * np.eye(len(community.fleet))

        def slope(import_steps: FloatArray, consumption_steps: FloatArray) -> tuple[FloatArray, BoolArray]:
            """Central differences along steps [N,N] of either power, p.u./kW [h,K,N], and where there are any [h]."""
            at, found = zip(*(
                ac_voltages(community, passive_pu, net_import_kw + sign * drawn, consumption_kw + sign * consumed)
                for drawn, consumed in zip(import_steps, consumption_steps, strict=True) for sign in (1.0, -1.0)
            ), strict=True)  # fmt: skip
            return (np.stack(at[::2], axis=-1) - np.stack(at[1::2], axis=-1)) / (2.0 * _STEP_KW), np.all(found, axis=0)

        (per_import, found), (per_consumption, also) = slope(steps, 0.0 * steps), slope(0.0 * steps, steps)
        known = converged & found & also
        idle_pu = (
            v_pu - np.einsum("hkn,hn->hk", per_import, net_import_kw)
            - np.einsum("hkn,hn->hk", per_consumption, consumption_kw)
        )  # fmt: skip
        feeder = community.feeder

        def side(limit_pu: float, sign: float, else_: VoltageSide) -> VoltageSide:
            parts = (sign * (limit_pu - idle_pu), -sign * per_import, -sign * per_consumption)
            return VoltageSide(
                *(
                    np.where(known.reshape((-1,) + (1,) * (part.ndim - 1)), part, other)
                    for part, other in zip(parts, else_, strict=True)
                )
            )

        low = side(feeder.v_min_pu + margin_pu, 1.0, rough.sides[0])
        return cls(price_ct_per_pu_h, (low, side(feeder.v_max_pu - margin_pu, -1.0, rough.sides[1])))

    def hours(self, first: int, end: int) -> Self:
        """Of its hours those from `first` to before `end`."""
        return replace(self, sides=tuple(VoltageSide(*(part[first:end] for part in side)) for side in self.sides))

    def excess_pu(self, net_import_kw: FloatArray, consumption_kw: FloatArray) -> FloatArray:
        """How far each bus lies outside its limits, zero inside [h,K]; inputs [h,N]."""
        beyond_pu = [side.beyond_pu(net_import_kw, consumption_kw) for side in self.sides]
        return np.asarray(np.maximum(np.max(beyond_pu, axis=0), 0.0))

    def can_be_exceeded(self, fleet: Fleet, load_kw: FloatArray, pv_kw: FloatArray) -> BoolArray:
        """Which limits a plan may exceed in expectation, side by side [.,h,K], from expected load and PV [h,N].

        The others hold: nobody draws more than with all its devices on and its PV curtailed, or less than with PV and
        battery at full power; nobody consumes less than its load, or more than with the shiftable load on; and each
        limit is taken at the worst of both.
        """
        most_kw = load_kw + fleet.shiftable_power_kw
        drawn_kw = (load_kw - pv_kw - fleet.battery_power_kw, most_kw + fleet.battery_power_kw)

        def worst(side: VoltageSide) -> FloatArray:
            parts = ((side.per_import, drawn_kw), (side.per_consumption, (load_kw, most_kw)))
            ends = ((factor * least[:, None], factor * most[:, None]) for factor, (least, most) in parts)
            return np.asarray(side.idle_pu + sum(np.maximum(*pair).sum(axis=2) for pair in ends))

        return np.stack([worst(side) for side in self.sides]) > 0.0


def ac_voltages(
    community: Community, passive_pu: FloatArray, net_import_kw: FloatArray, consumption_kw: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """AC power flow of some hours: voltages [h,K], and which hours have a solution [h].

    Args:
        community: who is where on which feeder.
        passive_pu: what the rest of the feeder consumes, multiples of its nominal load [h].
        net_import_kw: what each prosumer draws [h,N].
        consumption_kw: what each consumes, load and shiftable load: its reactive power goes with it [h,N].
    """
    feeder, fleet = community.feeder, community.fleet
    p_kw, q_kvar = np.outer(feeder.p_kw, passive_pu), np.outer(feeder.q_kvar, passive_pu)  # [K,h]
    np.add.at(p_kw, fleet.bus, (fleet.units * net_import_kw).T)
    np.add.at(q_kvar, fleet.bus, (fleet.units * _reactive_ratio(community) * consumption_kw).T)
    flow = solve_power_flow(feeder, p_kw, q_kvar)
    return flow.v_pu.T, flow.converged


def _reactive_ratio(community: Community) -> FloatArray:
    """Reactive over active power of what each prosumer consumes [N]."""
    return np.asarray(np.tan(np.arccos(community.fleet.power_factor)))
