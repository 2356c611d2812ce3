"""What a worker is started with beside its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamer.errors import UsageError
from streamer.kafka.start import Start

Stages = Literal["all", "clicks", "identity"]
"""What a worker runs: everything, clicks to sessions alone, or the identity stages alone."""
Scope = Literal["all", "assigned"] | frozenset[int]
"""Partitions that a drain answers for: all of the topic, those that this worker gets, or these."""


@dataclass(frozen=True)
class DrainOptions:
    """How to drain."""

    scope: Scope = "all"
    timeout_s: float | None = None
    """After how long to give up; None: never."""


@dataclass(frozen=True)
class WorkerOptions:
    """The options of `streamer worker`."""

    start: Start = "earliest"
    """Where a partition begins that nobody has read before."""
    drain: DrainOptions | None = None
    accept_rules: bool = False
    """Go on from state that was made under other session rules."""
    share_outputs: bool = False
    """Publish to topics that another app has published to."""
    stages: Stages = "all"


def parse_scope(text: str) -> Scope:
    """`all`, `assigned`, or partition numbers separated by commas. Raises `UsageError`."""
    if text == "all":
        return "all"
    if text == "assigned":
        return "assigned"
    numbers = text.split(",")
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise UsageError(
            f"--partitions {text!r}: expected all, assigned, or numbers separated by commas, as 0,3"
        )
    return frozenset(map(int, numbers))
