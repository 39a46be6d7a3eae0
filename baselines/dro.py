"""`dro`: distributionally robust plans with a reliability that holds for all distributions near the training days'.

Axis letters: N prosumers, H hours of a day, D training days, S scenarios, h remaining hours.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prosumer_gym.arrays import FloatArray, IntArray
from prosumer_gym.baselines.context import Context
from prosumer_gym.baselines.day_ahead import Plan, Scenarios
from prosumer_gym.baselines.dro_program import Deviations, Robustness, RobustPlan, solve_dro
from prosumer_gym.baselines.fit_cache import cached
from prosumer_gym.baselines.forecast import DayForecaster, DayValues, fold_of_days
from prosumer_gym.baselines.policy import Observation, hour_of
from prosumer_gym.baselines.scenario_policy import ScenarioPolicy, day_start, equally_spaced_days, uniform_scenarios
from prosumer_gym.baselines.tuned import Parameters, Tuned, tuned_for
from prosumer_gym.baselines.wasserstein import check_level, check_radius, support_of, worst_case_cvar
from prosumer_gym.community import Community
from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.errors import UsageError

EPS = 0.05
BAND_PU = 1.0
"""Of the connection's power: 50 kW, as in the paper."""
RHO_OBJ = 0.0
RADII = (0.0, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""From which the radius of the reliability is chosen, p.u. of the connection's power."""
_NO_KW = 1e-6
UNRELIABLE = "a plan that cannot be as reliable as asked"


class DistributionallyRobust(ScenarioPolicy):
    """Plans a supply that is reliable and a rule for real time, on the forecast and errors of `er-saa`.

    The method of `dro_program` (Tabriz J. Electr. Eng.). Deviations are the out-of-fold errors of the forecast: those
    of all training days for the reliability, which has a closed form, and those of the 50 days of `er-saa` for costs
    and peaks. Their support reaches from the smallest to the largest error and a tenth of their range beyond, within
    what is physically possible. One p.u. is the power of the connection.

    In all hours of a day together, a prosumer's supply is to fall short of its rule on a share `eps` of the days at
    most (each hour gets an H-th of it, by Bonferroni); with `individual`, in each hour by itself.

    Mode "open_loop": the gate's plan stands, and real time buys and sells what is lacking and left over, as planned by
    the rule or not. Mode "mpc": the position stands, every hour supply and rule of the rest of the day are decided
    anew. The rule still answers what deviates from the forecast *of the gate*: with the day's errors so far part of
    that is known, and the rule says how much of it real time and how much battery, shiftable load and trades take. The
    observed hour has no rule: it is settled as it is.

    Parameters, in p.u.: `rho_cc`, if not given, is the smallest of `RADII` whose reliability holds on training days
    that it was not computed from, in five folds (the largest where none does); `rho_obj` and the band are those tuned
    for the days, else `RHO_OBJ` and `BAND_PU`. `diagnostics` tell of the last plan, and `fallbacks`
    count those that had to be made reliable at the emergency price.

    Raises `UsageError` for an unknown mode, a negative radius or band, or `eps` outside (0, 1).
    """

    tuned_as = "dro"

    rho_obj: float
    band_pu: float
    rho_cc: float

    def __init__(
        self,
        mode: str = "mpc",
        *,
        rho_obj: float | None = None,
        band_pu: float | None = None,
        rho_cc: float | None = None,
        eps: float = EPS,
        individual: bool = False,
        permuted: bool = False,
        network: bool = False,
    ) -> None:
        super().__init__(mode, network=network)
        for name, radius in (("rho_obj", rho_obj), ("rho_cc", rho_cc)):
            if radius is not None:
                check_radius(name, radius)
        check_level("eps", eps)
        if band_pu is not None and not band_pu >= 0:
            raise UsageError(f"band_pu {band_pu}: the band of real-time energy must not be negative")
        self.eps, self.individual, self.permuted = eps, individual, permuted
        asked = {"rho_obj": rho_obj, "band_pu": band_pu}
        self._asked = {name: value for name, value in asked.items() if value is not None}
        self._asked_rho_cc = rho_cc
        self.diagnostics: dict[str, Any] = {}

    @classmethod
    def candidates(cls, num_days: int) -> list[Parameters]:  # noqa: ARG003
        """Radii of the cost, and bands from where real time is next to free to where it is next to closed."""
        return [{"rho_obj": rho, "band_pu": band} for rho in (0.0, 1e-3, 1e-2) for band in (1.0, 0.3, 0.2, 0.1)]

    @classmethod
    def default_for(cls, history: Dataset) -> Parameters:  # noqa: ARG003
        """The parameters where nothing was tuned."""
        return {"rho_obj": RHO_OBJ, "band_pu": BAND_PU}

    def _parameters(self, history: Dataset) -> Tuned:
        found = tuned_for(self.tuned_as, history)
        if self._asked.keys() == self.default_for(history).keys():
            return Tuned(self._asked, "as asked for", "")
        parameters = {**self.default_for(history), **found.parameters, **self._asked}
        return found._replace(parameters=parameters)

    def tuned_settings(self, history: Dataset) -> dict[str, int | float | str]:
        """What a fit on `history` will use, and where it comes from. Raises `UsageError` as `tuned_for`."""
        parameters, source, passed_over = self._parameters(history)
        return {**parameters, "parameters": source, **({"passed_over": passed_over} if passed_over else {})}

    def fit(self, community: Community, history: Dataset) -> None:
        """Learn the forecast and its errors, and choose the radius of the reliability."""
        super().fit(community, history)
        if np.min(community.fleet.connection_limit_kw) <= 0:
            raise UsageError("fleet.connection_limit_kw: must be positive, deviations are counted in it")
        self.forecaster = cached(DayForecaster.fit, history, permuted=self.permuted)
        self.days = equally_spaced_days(history)
        parameters = self._parameters(history).parameters
        self.rho_obj, self.band_pu = parameters["rho_obj"], parameters["band_pu"]
        if self._asked_rho_cc is not None:
            self.rho_cc = self._asked_rho_cc
        else:
            errors = DayValues.from_series(self.forecaster.errors)
            deviations = (errors.load_kw - errors.pv_kw) / community.fleet.connection_limit_kw
            fold = fold_of_days(history.block[history.is_training])
            self.rho_cc = choose_radius(deviations, fold, eps=self.eps, individual=self.individual)

    @property
    def level(self) -> float:
        """How often each hour's supply may fall short."""
        return self.eps if self.individual else self.eps / self.community.hours_per_day

    def scenarios(self, obs: Observation) -> Scenarios:
        """Forecast plus the errors of all training days, within what is physically possible."""
        return uniform_scenarios(*self.forecaster.scenarios(obs, np.arange(len(self.forecaster.errors))))

    def day_plan(self, obs: Observation) -> Plan:
        """The plan for the day of an observation at the gate."""
        self.plan(obs)
        assert self._plan is not None
        return self._plan

    def robust_plan(self, obs: Observation, scenarios: Scenarios, position_kw: FloatArray | None) -> RobustPlan:
        """The plan of the remaining hours on the scenarios of all training days, with its rule."""
        nominal_kw, some = self.community.fleet.connection_limit_kw, self.days
        return solve_dro(
            self.community,
            day_start(obs, position_kw),
            uniform_scenarios(scenarios.load_kw[some], scenarios.pv_kw[some], scenarios.price_rt_ct_per_kwh[some]),
            self.deviations(obs, scenarios),
            Robustness(self.rho_obj, self.rho_cc, self.level, self.band_pu * nominal_kw),
            network=self._penalty(obs),
        )

    def deviations(self, obs: Observation, scenarios: Scenarios) -> Deviations:
        """What the scenarios deviate from the forecast of the gate, and the support around them."""
        hour, nominal_kw = hour_of(obs), self.community.fleet.connection_limit_kw
        context = Context.from_observation(obs)
        gate = self.forecaster.gate.predict(context)
        expected_kw = (gate.load_kw - gate.pv_kw)[0, hour:]
        net_kw = scenarios.load_kw - scenarios.pv_kw
        low_kw, high_kw = support_of(net_kw)
        # Not more generation than the season brings without any load, nor more load than alone.
        most_sun_kw = self.forecaster.gate.pv_ceiling_kw(context.day_of_year)[0, hour:]
        low_kw = np.maximum(low_kw, np.minimum(-most_sun_kw, net_kw.min(axis=0)))
        high_kw = np.minimum(high_kw, support_of(scenarios.load_kw)[1])
        return Deviations(
            nominal_kw, expected_kw, (net_kw - expected_kw) / nominal_kw, (low_kw - expected_kw) / nominal_kw,
            (high_kw - expected_kw) / nominal_kw,
        )  # fmt: skip

    def _solve(self, obs: Observation, scenarios: Scenarios, position_kw: FloatArray | None) -> Plan:
        found = self.robust_plan(obs, scenarios, position_kw)
        self.diagnostics = {
            "rho_cc": self.rho_cc,
            "robust_plan": found,
            "emergency_kwh": self.community.dt_h * float(found.emergency_kw.sum()),
            "emergency_hours": int(np.count_nonzero(found.emergency_kw > _NO_KW)),
        }
        if np.any(found.emergency_kw > _NO_KW):
            self.fallbacks[UNRELIABLE] += 1
        return self.counted(found.plan)


def choose_radius(deviations: FloatArray, fold: IntArray, *, eps: float, individual: bool) -> float:
    """The smallest of `RADII` whose reliability holds on deviations [D,h,N] that it was not computed from.

    Whatever the rule, a supply that just withstands kappa falls short when a deviation exceeds it: no day needs to be
    planned. Folds [D] are left out in turn. Counted are the days with any such hour, each prosumer's; with
    `individual`, the hour with the most. The largest radius where none is enough.
    """
    for radius in RADII:
        exceeded = np.zeros(deviations.shape, dtype=np.bool_)
        for number in np.unique(fold):
            known = deviations[fold != number]
            level = eps if individual else eps / deviations.shape[1]
            weights = np.full(len(known), 1.0 / len(known))
            kappa = worst_case_cvar(known, weights, support_of(known)[1], radius=radius, level=level)
            exceeded[fold == number] = deviations[fold == number] > kappa
        share = exceeded.mean(axis=(0, 2)).max() if individual else exceeded.any(axis=1).mean()
        if share <= eps:
            return radius
    return RADII[-1]
