"""Which of the numbers 0 to n - 1 hang together, as they are joined pair by pair."""

from __future__ import annotations


class Groups:
    """At first every number is a group of its own."""

    def __init__(self, num: int) -> None:
        self._above = list(range(num))  # a number of the same group, towards its root

    def root(self, number: int) -> int:
        """The number that stands for its group."""
        while self._above[number] != number:
            self._above[number] = self._above[self._above[number]]
            number = self._above[number]
        return number

    def join(self, a: int, b: int) -> bool:
        """Make two groups one; False if they are already."""
        root_a, root_b = self.root(a), self.root(b)
        self._above[root_a] = root_b
        return root_a != root_b
