"""The one error that a user can cause and mend."""

from __future__ import annotations


class UsageError(ValueError):
    """Bad input. The message is one line: what is wrong, where, and what to do.

    The command line prints the message alone and exits with code 2.
    """
