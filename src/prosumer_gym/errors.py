"""The one error that a user can cause and mend, and the interruption that they ask for."""

from __future__ import annotations


class UsageError(ValueError):
    """Bad input. The message is one line: what is wrong, where, and what to do.

    The command line prints the message alone and exits with code 2.
    """


class InterruptedRunError(Exception):
    """Ctrl-C in a run that can go on. The message is one line: what is kept, and how to go on."""
