"""What a program has spent since a moment of its own choice, children included; printed as its last line."""

from __future__ import annotations

import resource
import time

import orjson


def cpu_s() -> float:
    """CPU seconds, user and system, of this process, all its threads and its ended children."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


class Spent:
    """CPU and wall seconds since it was made."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._cpu_s = cpu_s()
        self._wall_s = time.monotonic()

    def show(self) -> None:
        """Print both as one JSON object."""
        spent = {"cpu_s": cpu_s() - self._cpu_s, "wall_s": time.monotonic() - self._wall_s}
        print(orjson.dumps(spent).decode())
