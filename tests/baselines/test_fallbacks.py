"""What policies count: plans that another solver had to find, plans that cannot keep what they promise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support_policies import small_community, small_days

from prosumer_gym.baselines import ours, scenario_policy
from prosumer_gym.baselines.dro import UNRELIABLE, DistributionallyRobust
from prosumer_gym.baselines.dro_program import RobustPlan
from prosumer_gym.baselines.po import PredictThenOptimise
from prosumer_gym.baselines.scenario_policy import SOLVER_FELL_BACK
from prosumer_gym.envs.single import TwoStageEnv


def gate(day: int = 0) -> dict[str, Any]:
    days = small_days()
    obs, _ = TwoStageEnv(days, small_community(), split="dev").reset(options={"day": int(days.days("dev")[day])})
    return dict(obs)


def inside() -> dict[str, Any]:
    """The first hour of the day."""
    env = TwoStageEnv(small_days(), small_community(), split="dev")
    env.reset(options={"day": int(small_days().days("dev")[0])})
    action = {name: np.zeros(space.shape) for name, space in env.action_space.spaces.items()}
    return dict(env.step(action)[0])


def fitted(policy: Any) -> Any:
    policy.fit(small_community(), small_days().training_history())
    policy.reset(0)
    return policy


def test_plans_of_the_second_solver_are_counted_until_the_next_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = fitted(PredictThenOptimise("mpc"))
    policy.act(gate())
    assert policy.fallbacks == {}
    real = scenario_policy.solve_core
    monkeypatch.setattr(
        scenario_policy, "solve_core", lambda *args, **kwargs: replace(real(*args, **kwargs), fallbacks=("piqp: no",))
    )
    policy.act(gate())
    policy.act(inside())
    assert policy.fallbacks == {SOLVER_FELL_BACK: 2}
    policy.reset(0)
    assert policy.fallbacks == {}


@pytest.mark.parametrize(("mode", "solver"), [("mpc", "solve_recourse"), ("open_loop", "plan_of")])
def test_ours_counts_them_in_both_modes(mode: str, solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = fitted(ours.Ours(mode))
    real = getattr(ours, solver)
    monkeypatch.setattr(ours, solver, lambda *args, **kwargs: replace(real(*args, **kwargs), fallbacks=("piqp: no",)))
    policy.act(gate())
    assert policy.fallbacks == {SOLVER_FELL_BACK: 1}
    policy.reset(0)
    assert policy.fallbacks == {}


def test_robust_plans_that_need_the_emergency_price_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = fitted(DistributionallyRobust("open_loop", rho_cc=0.0))
    real = policy.robust_plan

    def with_emergency(power_kw: float) -> Callable[..., RobustPlan]:
        return lambda *args: replace(real(*args), emergency_kw=np.full((8, 2), power_kw))

    for power_kw, count in ((0.0, 0), (1.0, 1), (2.0, 2)):
        monkeypatch.setattr(policy, "robust_plan", with_emergency(power_kw))
        policy.act(gate())
        assert policy.fallbacks[UNRELIABLE] == count


def test_the_plan_of_one_day_is_not_followed_on_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an episode of several days a gate may fail; `reset` does not come in between."""
    policy = fitted(PredictThenOptimise("open_loop"))
    policy.act(gate())
    policy.act(inside())

    def fails(*args: object, **kwargs: object) -> None:
        del args, kwargs
        raise RuntimeError("no plan")

    monkeypatch.setattr(scenario_policy, "solve_core", fails)
    with pytest.raises(RuntimeError, match="no plan"):
        policy.act(gate(1))
    with pytest.raises(ValueError, match="has not seen the gate of this day"):
        policy.act(inside())
