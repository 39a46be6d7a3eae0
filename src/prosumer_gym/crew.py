"""Threads that share the blocks of a batch.

Kernels release the interpreter's lock, and no block touches another, so that results do not depend on who played what.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

THREADS_FROM_LANES = 256
"""Smaller batches are played on the calling thread: handing work to another one would cost more than it saves."""


class Crew:
    """The calling thread and others, as many as a batch is worth.

    Args:
        threads: how many there may be.
        num_lanes: lanes of the batch.
        num_blocks: blocks that they fill.
    """

    def __init__(self, threads: int, num_lanes: int, num_blocks: int) -> None:
        self.size = min(threads, num_blocks) if num_lanes >= THREADS_FROM_LANES else 1
        ends = [num_blocks * t // self.size for t in range(self.size + 1)]
        self._shares = list(pairwise(ends))
        self._others: ThreadPoolExecutor | None = None
        self._process = -1

    def share(self, work: Callable[[int, int, int], Any]) -> list[Any]:
        """What `work(t, first, last)` gives, done by thread t for its blocks from the first to before the last."""
        if self.size == 1:
            return [work(0, *self._shares[0])]
        waiting = [self._pool().submit(work, t, *self._shares[t]) for t in range(1, self.size)]
        return [work(0, *self._shares[0]), *(part.result() for part in waiting)]

    def _pool(self) -> ThreadPoolExecutor:
        """The other threads; a forked process has none of its parent's and starts its own."""
        if self._others is None or self._process != os.getpid():
            self._others = ThreadPoolExecutor(self.size - 1, thread_name_prefix="crew")
            self._process = os.getpid()
        return self._others
