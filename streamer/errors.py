"""Errors that are meant for the person at the terminal: one or two lines, never a traceback."""

from __future__ import annotations


class StreamerError(Exception):
    """The work failed. The text says what was found, where, what was expected and what to do.

    Never put a secret or anything that a customer typed in the text.
    """

    exit_code: int = 1


class UsageError(StreamerError):
    """The call is wrong: another call (or another configuration) is needed, not another try."""

    exit_code = 2
