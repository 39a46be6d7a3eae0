"""Policies: optimization methods, rules and oracles, all of them `observation -> action`."""

from __future__ import annotations

from prosumer_gym.baselines.policy import MODES, Policy, TwoStagePolicy
from prosumer_gym.baselines.registry import (
    PolicyInfo,
    load_policy,
    make_policy,
    policy_info,
    policy_infos,
    policy_names,
)

__all__ = [
    "MODES",
    "Policy",
    "PolicyInfo",
    "TwoStagePolicy",
    "load_policy",
    "make_policy",
    "policy_info",
    "policy_infos",
    "policy_names",
]
