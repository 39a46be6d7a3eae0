"""What is kept of a run: one JSON file that can be scored again without simulating, and a file of hourly traces.

The part `result` holds nothing that depends on the machine's speed, and `result_sha256` is its digest: two runs of a
deterministic policy give the same one. A digest is no signature; it tells that a file is as it was written.

Axis letters: M metrics, R training seeds, D days, K episodes, N prosumers, T cost terms.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from prosumer_gym.actions import DayActions
from prosumer_gym.arrays import FloatArray
from prosumer_gym.errors import UsageError
from prosumer_gym.leaderboard.metrics import DayMetrics
from prosumer_gym.leaderboard.protocol import METRICS, PROTOCOL_VERSION, WEIGHTS
from prosumer_gym.leaderboard.score import Yardstick
from prosumer_gym.leaderboard.store import write_atomically
from prosumer_gym.rollout import Trace

SCHEMA = "prosumer-gym record 1"

_Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Days = list[_Finite]

_LISTS = {"cost_terms_ct", "cost_per_prosumer_ct"}
_MAY_BE_UNDEFINED = {"par", "par_feeder"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Protocol(_Part):
    """The rules that were scored by."""

    version: str
    weights: dict[str, _Finite]


class DatasetPart(_Part):
    """The days."""

    id: str
    version: str
    sha256: _Sha
    split: Literal["train", "dev", "test"]
    dates: list[Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]]
    week: list[int]
    """Number of the week block of each day."""
    days_per_episode: Annotated[int, Field(ge=1)] = 1
    """The dates are those of one episode after the other. Older records do not say it: every day was one."""


class ScenarioPart(_Part):
    """The community."""

    id: str
    sha256: _Sha


class PolicyPart(_Part):
    """What was played."""

    name: str
    kind: Literal["policy", "reference", "oracle"]
    family: str
    revision: _Sha
    settings: dict[str, bool | int | float | str]


class EnvironmentPart(_Part):
    """The code and the libraries."""

    version: str
    code_sha256: _Sha
    lock: dict[str, str]


class SeedRun(_Part):
    """All days of one training seed."""

    seed: int
    action_log_sha256: _Sha
    failed_steps: list[int]
    out_of_range: list[int]
    first_error: str
    fallbacks: dict[str, list[int]] = {}
    """How often in each episode the policy fell back to what, by its own count."""
    days: dict[str, list[_Finite | None]]
    """Raw figures of each day, by the names of `DayMetrics`; null where one is undefined."""
    day_lists: dict[str, list[_Days]]
    """Those of them that are a list for each day."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for where, part, expected in (
            ("days", self.days, {item.name for item in fields(DayMetrics)} - _LISTS),
            ("day_lists", self.day_lists, _LISTS),
        ):
            wrong = sorted(part.keys() ^ expected)
            if wrong:
                raise ValueError(f"{where}.{wrong[0]}: {'missing' if wrong[0] in expected else 'unknown'}")
        for name, values in self.days.items():
            if None in values and name not in _MAY_BE_UNDEFINED:
                raise ValueError(f"days.{name}: null is not allowed")
        for name, lists in self.day_lists.items():
            if len({len(values) for values in lists}) > 1:
                raise ValueError(f"day_lists.{name}: lists of different lengths")
        return self

    def metrics(self) -> DayMetrics:
        """The figures as arrays; null is NaN."""
        return DayMetrics(
            **{name: np.array(values, dtype=np.float64) for name, values in (self.days | self.day_lists).items()}
        )


class YardstickPart(_Part):
    """What the policy was measured with, by metric."""

    reference: dict[str, _Days]
    """Of each day."""
    ideal: dict[str, _Days]
    """Of each episode."""
    gap: dict[str, _Days]
    """Of each episode."""
    reference_per_prosumer_ct: list[_Days]
    best_oracle_j: _Finite


class Headline(_Part):
    """The score; null where there is none."""

    j: _Finite | None
    j_low: _Finite | None
    j_high: _Finite | None
    interval_method: str | None
    s: dict[str, _Finite | None]
    ranked: bool
    """Few enough failed steps and enough episodes to be ranked."""


class Result(_Part):
    """The hashed part of a record."""

    protocol: Protocol
    environment: EnvironmentPart
    dataset: DatasetPart
    scenario: ScenarioPart
    mode: Literal["open_loop", "mpc", "both"]
    control: Literal["central"]
    policy: PolicyPart
    runs: Annotated[list[SeedRun], Field(min_length=1)]
    yardstick: YardstickPart
    headline: Headline

    @model_validator(mode="after")
    def _same_days(self) -> Self:
        num, length = len(self.dataset.dates), self.dataset.days_per_episode
        if num == 0:
            raise ValueError("dataset.dates: no day")
        if num % length:
            raise ValueError(f"dataset.days_per_episode: {num} days are no whole episodes of {length}")
        by_day: dict[str, Sequence[object]] = {"dataset.week": self.dataset.week}
        by_episode: dict[str, Sequence[object]] = {}
        for place, run in enumerate(self.runs):
            by_day |= {f"runs.{place}.{name}": getattr(run, name) for name in ("failed_steps", "out_of_range")}
            by_day |= {f"runs.{place}.days.{name}": values for name, values in run.days.items()}
            by_day |= {f"runs.{place}.day_lists.{name}": values for name, values in run.day_lists.items()}
            by_episode |= {f"runs.{place}.fallbacks.{what}": counts for what, counts in run.fallbacks.items()}
        by_day["yardstick.reference_per_prosumer_ct"] = self.yardstick.reference_per_prosumer_ct
        for name, lists in (("reference", by_day), ("ideal", by_episode), ("gap", by_episode)):
            part: dict[str, list[float]] = getattr(self.yardstick, name)
            if part.keys() != set(METRICS):
                raise ValueError(f"yardstick.{name}: needs {', '.join(METRICS)}")
            lists |= {f"yardstick.{name}.{metric}": values for metric, values in part.items()}
        for lists, expected, unit in ((by_day, num, "days"), (by_episode, num // length, "episodes")):
            for where, values in lists.items():
                if len(values) != expected:
                    raise ValueError(f"{where}: {len(values)} values for {expected} {unit}")
        return self

    def yard(self) -> Yardstick:
        """The yardstick as arrays."""
        part = self.yardstick
        return Yardstick(
            **{name: np.array([getattr(part, name)[m] for m in METRICS]) for name in ("reference", "ideal", "gap")},
            week=np.array(self.dataset.week, dtype=np.int64),
            reference_per_prosumer_ct=np.array(part.reference_per_prosumer_ct),
            best_oracle_j=part.best_oracle_j,
        )


class MadeOn(_Part):
    """What depends on the machine, beside the hashed part. Seconds; null where nothing was timed."""

    finished: str
    platform: str
    processor: str
    cores: int
    fit_s: _Finite | None
    seconds_per_day: _Finite
    p95_day_ahead_s: _Finite
    p95_step_s: _Finite
    time_ratio: _Finite
    """Largest share of its time limit that any decision or the fit took."""


class Record(_Part):
    """One policy on one board."""

    schema_: Annotated[Literal["prosumer-gym record 1"], Field(alias="schema")] = "prosumer-gym record 1"
    result: Result
    result_sha256: _Sha
    made_on: MadeOn


def figures(metrics: DayMetrics) -> dict[str, Any]:
    """The figures of days as the fields `days` and `day_lists` of a `SeedRun`; NaN becomes null."""
    values = {item.name: getattr(metrics, item.name).tolist() for item in fields(DayMetrics)}
    return {
        "days": {k: [None if math.isnan(x) else x for x in v] for k, v in values.items() if k not in _LISTS},
        "day_lists": {name: values[name] for name in sorted(_LISTS)},
    }


def yardstick_part(yard: Yardstick) -> YardstickPart:
    """The yardstick as lists."""
    return YardstickPart(
        **{
            name: {metric: getattr(yard, name)[m].tolist() for m, metric in enumerate(METRICS)}
            for name in ("reference", "ideal", "gap")
        },
        reference_per_prosumer_ct=yard.reference_per_prosumer_ct.tolist(),
        best_oracle_j=yard.best_oracle_j,
    )


def canonical(result: Mapping[str, Any]) -> bytes:
    """The one way to write the hashed part: sorted keys, no spaces, no NaN, shortest exact decimals."""
    return json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def make_record(result: Result, made_on: MadeOn) -> Record:
    """A record with the digest of its result."""
    digest = hashlib.sha256(canonical(result.model_dump(mode="json"))).hexdigest()
    return Record(result=result, result_sha256=digest, made_on=made_on)


def file_name(result: Result) -> str:
    """Name of a record's file: dataset, scenario, split and days, mode, control, policy, revision.

    The days are a number, such as 90, or episodes by the days of each, such as 3x30.
    """
    num, length = len(result.dataset.dates), result.dataset.days_per_episode
    days = f"{result.dataset.split}{num}" if length == 1 else f"{result.dataset.split}{num // length}x{length}"
    policy = result.policy.name.replace(":", "-")
    parts = (result.dataset.id, result.scenario.id, days, result.mode, result.control, policy)
    return ".".join((*parts, result.policy.revision[:8])) + ".json"


def save_record(record: Record, folder: Path) -> Path:
    """Write a record; returns its file. Raises `UsageError` if the folder cannot be written to."""
    path = folder / file_name(record.result)
    content = json.dumps(record.model_dump(mode="json", by_alias=True), indent=1, allow_nan=False)
    write_atomically(path, content.encode() + b"\n")
    return path


def load_record(path: Path) -> Record:
    """Read a record and check it.

    Raises:
        UsageError: not a file of JSON, a field that is missing, unknown or wrong (named), a digest that is not that of
            the result, another version of the protocol, or weights that are not its.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give the path of a record") from None
    except ValueError as error:
        raise UsageError(f"{path}: is not JSON ({error}); run the policy again to make the record anew") from None
    try:
        record = Record.model_validate(content)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        shown = "; ".join(f"{'.'.join(map(str, p['loc'])) or 'record'}: {_message(p['msg'])}" for p in problems[:3])
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise UsageError(f"{path}: {shown}{more}; run the policy again to make the record anew") from None
    if hashlib.sha256(canonical(content["result"])).hexdigest() != record.result_sha256:
        raise UsageError(
            f"{path}: result_sha256 is not the digest of result: the record was changed after it was written; "
            "run the policy again"
        )
    if record.result.protocol.version != PROTOCOL_VERSION:
        raise UsageError(
            f"{path}: scored by protocol {record.result.protocol.version}, this is protocol {PROTOCOL_VERSION}; "
            "run the policy again"
        )
    weights = record.result.protocol.weights
    if weights != WEIGHTS:
        raise UsageError(
            f"{path}: result.protocol.weights: {_weights(weights)} are not those of protocol {PROTOCOL_VERSION}, "
            f"{_weights(WEIGHTS)}; run the policy again to make the record anew"
        )
    return record


def _weights(weights: Mapping[str, float]) -> str:
    return " ".join(f"{name}={weight:g}" for name, weight in weights.items()) or "none"


def _message(text: str) -> str:
    return text.removeprefix("Value error, ").lower()


def save_traces(actions: DayActions, trace: Trace, dates: Sequence[str], path: Path) -> None:
    """The hourly story of a run, for looking closer: wanted actions exactly, what came of them in single precision.

    Axes as in `DayActions` (with a leading D) and `Trace`; the names of the former begin with "wanted_".
    """
    wanted: dict[str, FloatArray] = {f"wanted_{f.name}": getattr(actions, f.name) for f in fields(DayActions)}
    happened = {f.name: getattr(trace, f.name) for f in fields(Trace)}
    single = {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in happened.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, dates=np.array(dates), **wanted, **single)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
