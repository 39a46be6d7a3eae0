"""Episodes already played, one file each, so that an interrupted run loses at most those it was playing.

A file is written beside its place and moved there: it is complete or absent. A digest inside says whether it still is
what was written.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prosumer_gym.actions import DayActions
from prosumer_gym.errors import UsageError
from prosumer_gym.leaderboard.play import EpisodeLog


class DamagedEpisodeError(Exception):
    """A file that is not what was once written."""


class EpisodeStore:
    """The episodes of one policy in one folder, named by the date on which they begin.

    A file belongs to its date and to `key`, the digest of what decides what is played, the length of an episode
    included: moved elsewhere it is damaged.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key

    def path(self, date: np.datetime64) -> Path:
        """File of an episode."""
        return self.folder / f"{date}.npz"

    def save(self, date: np.datetime64, log: EpisodeLog) -> None:
        """Keep an episode."""
        arrays = _arrays(log)
        buffer = io.BytesIO()
        np.savez(buffer, digest=np.array(self._bound(date, arrays)), **arrays)  # type: ignore[arg-type]
        write_atomically(self.path(date), buffer.getvalue())

    def load(self, date: np.datetime64) -> EpisodeLog | None:
        """A kept episode, None if there is none.

        Raises:
            DamagedEpisodeError: the file is cut short or was changed, or is that of another episode or policy.
        """
        path = self.path(date)
        if not path.exists():
            return None
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise DamagedEpisodeError(f"{path}: cannot be read ({type(error).__name__})") from None
        digest = str(arrays.pop("digest", ""))
        if digest != self._bound(date, arrays) or arrays.keys() != _NAMES:
            raise DamagedEpisodeError(f"{path}: its digest is not that of this day, policy and content")
        return EpisodeLog(
            actions=DayActions(**{item.name: arrays[item.name] for item in fields(DayActions)}),
            failed=arrays["failed"],
            out_of_range=arrays["out_of_range"],
            first_error=str(arrays["first_error"]),
            decision_s=arrays["decision_s"],
            bound=float(arrays["bound"]),
            gap=float(arrays["gap"]),
            fallbacks=dict(zip(arrays["fallbacks"].tolist(), arrays["fallback_counts"].tolist(), strict=True)),
        )

    def _bound(self, date: np.datetime64, arrays: dict[str, npt.NDArray[np.generic]]) -> str:
        """Digest of an episode's content together with what it belongs to."""
        return hashlib.sha256(f"{self.key} {date} {_digest(arrays)}".encode()).hexdigest()


_OTHER = ("failed", "out_of_range", "first_error", "decision_s", "bound", "gap")
_NAMES = {item.name for item in fields(DayActions)} | set(_OTHER) | {"fallbacks", "fallback_counts"}


def _arrays(log: EpisodeLog) -> dict[str, npt.NDArray[np.generic]]:
    return {
        **{item.name: np.asarray(getattr(log.actions, item.name)) for item in fields(DayActions)},
        **{name: np.asarray(getattr(log, name)) for name in _OTHER},
        "fallbacks": np.array(list(log.fallbacks), dtype=np.str_),
        "fallback_counts": np.array(list(log.fallbacks.values()), dtype=np.int64),
    }


def _digest(arrays: dict[str, npt.NDArray[np.generic]]) -> str:
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        sha.update(array.tobytes())
    return sha.hexdigest()


def actions_digest(actions: DayActions) -> str:
    """SHA-256 of the log of physical actions of a run."""
    return _digest({item.name: np.asarray(getattr(actions, item.name), dtype="<f8") for item in fields(actions)})


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either complete or as it was before.

    Raises:
        UsageError: the place cannot be written to.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(content)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise UsageError(f"{path.parent}: cannot be written to ({error.strerror}); choose another --out") from None
