"""Parameters that were chosen beforehand, on training days, and are kept in files.

`prosumer-gym tune` writes them. Those of the package lie in `tuned/DATASET/POLICY.json` beside this module; those of a
user, in the folder named by the environment variable PROSUMER_GYM_TUNED or else in the platform's place for user data,
come first. A file says what training days it was made from, by their digest. Where a policy is fitted on other days the
file is passed over, and the policy's settings say so; a file that cannot be read is an error. A choice made for one
community is used for every community that lives the same days.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prosumer_gym.datasets.schema import Dataset
from prosumer_gym.errors import UsageError

HOME_VARIABLE = "PROSUMER_GYM_TUNED"
_EMBEDDED = Path(__file__).parent / "tuned"

Parameters = dict[str, int | float]


class GridPoint(BaseModel):
    """What one choice of the parameters cost on the days it was judged on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parameters: Parameters
    mean_cost_ct: float
    behind_best_ct: float
    standard_error_ct: float
    """Of `behind_best_ct`, over the days as pairs."""


class TunedFile(BaseModel):
    """A file of tuned parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    policy: str
    parameters: Parameters
    dataset: str
    dataset_sha256: str
    """Of the data set as published."""
    history_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of the training days and their lead-in, as the community lives them: what the policy is fitted on."""
    scenario: str
    scenario_sha256: str
    criterion: str
    train_days: int
    """Training days that the choice was judged on."""
    train: list[GridPoint]
    """Every choice, in the order of the grid."""
    dev_days: int
    dev: list[GridPoint]
    """The choice and the default on dev days, for information: nothing was chosen by them."""
    command: str
    package: str
    code_sha256: str
    libraries: dict[str, str]
    finished: str


class Tuned(NamedTuple):
    """The parameters of a policy for a training history."""

    parameters: Parameters
    """Empty where nothing was tuned for it."""
    source: str
    """The file, or "default"."""
    passed_over: str
    """Files of other data, one line; empty without any."""


def tuned_home() -> Path:
    """The folder of the user's own files; it need not exist."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_data_dir("prosumer-gym")) / "tuned"


def tuned_path(home: Path, dataset: str, policy: str) -> Path:
    """Where a folder keeps the parameters of a policy for a data set."""
    return home / dataset / f"{policy}.json"


def tuned_for(policy: str, history: Dataset) -> Tuned:
    """The parameters tuned for a policy on just this training history.

    Raises:
        UsageError: a file that cannot be read.
    """
    passed_over: list[str] = []
    for home, owner in ((tuned_home(), "yours"), (_EMBEDDED, "the package's")):
        path = tuned_path(home, history.id, policy)
        if not path.exists():
            continue
        file = load_tuned(path)
        if file.history_sha256 == history.manifest.sha256:
            return Tuned(file.parameters, f"{history.id}/{policy}.json, {owner}", "; ".join(passed_over))
        passed_over.append(f"{path} was tuned on other training days of the name {history.id!r} and is passed over")
    return Tuned({}, "default", "; ".join(passed_over))


def load_tuned(path: Path) -> TunedFile:
    """The content of a file. Raises `UsageError` when it is not one of tuned parameters."""
    try:
        return TunedFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: it cannot be read ({error.strerror}); delete it or tune again") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UsageError(f"{path}: {where}: {first['msg'].lower()}; delete it or tune again") from None
