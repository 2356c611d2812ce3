"""aiokafka's warnings and errors, collapsed: a dead broker is worth a line now and then, not hundreds."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

EVERY_S = 30.0


class RepeatedMessages(logging.Filter):
    """Lets a message through, then the next of its kind after `EVERY_S`, with the number of those left out.

    Messages are of a kind if they have the same text but for their arguments. `now`: a clock in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}
        """By kind: when one was let through, and how many were left out since."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind, now = (record.name, record.levelno, str(record.msg)), self._now()
        since, left_out = self._seen.get(kind, (float("-inf"), 0))
        if now - since < EVERY_S:
            self._seen[kind] = (since, left_out + 1)
            return False
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more like this since)", ()
        self._seen[kind] = (now, 0)
        return True


_collapse = RepeatedMessages()


def collapse_repeated_messages() -> None:
    """For every logger of aiokafka's modules that are imported."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "aiokafka":
            logging.getLogger(name).addFilter(_collapse)
