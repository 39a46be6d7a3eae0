"""The rules of judging, as constants: whoever changes one of them changes the protocol's version.

docs/scoring.md says how they act together.
"""

from __future__ import annotations

import hashlib

PROTOCOL_VERSION = "1"

WEIGHTS = {"cost": 0.6, "peak": 0.2, "voltage": 0.2}
"""Share of each normalised score S in the headline J, in the order in which they are listed everywhere."""
METRICS = tuple(WEIGHTS)

SCORE_TOLERANCE = 1e-4
"""How far S may exceed 1, on top of the oracle's own optimality gap, before the run is held to be a bug."""

PAR_FLOOR = 0.01
"""The peak-to-average ratio is undefined where mean import is below this share of the mean gross demand."""

FAILURE_SHARE = 0.01
"""A policy whose steps fail more often than this is not ranked."""

MIN_EPISODES = 8
"""Fewer episodes than this give no interval and no rank. An episode is one day, or as many as the board says."""

CONFIDENCE = 0.95
BOOTSTRAP_DRAWS = 10_000
BLOCK_DAYS = 7
MIN_BLOCKS_STUDENTISED = 6
"""With fewer week blocks than this in which a metric can be improved, too many draws repeat one week only or hold none
of them; the interval is then Student's t."""

FIT_LIMIT_S = 900.0
DAY_AHEAD_LIMIT_S = 60.0
STEP_LIMIT_S = 2.0
STEP_BANK_S = 60.0
"""Compute rule on 2 cores; the hours of a day may together exceed their limits by the bank."""


class RunError(RuntimeError):
    """A run that failed through no fault of its input: exit code 1. The message is one line."""


def protocol_seed() -> int:
    """Seed of every random number of the scorer, from the protocol's version: same protocol, same draws."""
    return int.from_bytes(hashlib.sha256(f"prosumer-gym protocol {PROTOCOL_VERSION}".encode()).digest()[:8], "little")
