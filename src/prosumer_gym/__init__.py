"""A benchmark of policies that run a community of prosumers on a distribution feeder."""

from __future__ import annotations

__version__ = "0.1.0"
