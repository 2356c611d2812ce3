"""The rules by which clicks become sessions: frozen, validated, and named by a version."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass

import msgspec

CORE_RULES_NUMBER = 2
"""Raise it when the code of the core would cut the same clicks differently under the same settings."""


@dataclass(frozen=True, slots=True)
class SessionRules:
    """Session and watermark settings of one run; all durations in ms, `min_timestamp_ms` in ms UTC."""

    gap_ms: int = 1_800_000
    """Inactivity gap, inclusive: two clicks exactly this far apart share a session."""
    max_duration_ms: int = 43_200_000
    max_events: int = 2500
    end_events: frozenset[str] = frozenset({"logout"})
    out_of_orderness_ms: int = 120_000
    idle_after_ms: int = 60_000
    """Arrival time without a rise of the watermark after which idleness closes sessions; 0: never."""
    max_future_ms: int = 300_000
    min_timestamp_ms: int = 631_152_000_000
    revise_within_ms: int = 0
    """How much further than a gap the watermark may be beyond a session for a click to revise it; 0: no click
    does."""

    def __post_init__(self) -> None:
        for name in ("gap_ms", "max_duration_ms", "max_events"):
            if getattr(self, name) < 1:
                raise ValueError(f"session rule {name} is {getattr(self, name)}, expected at least 1")
        for name in ("out_of_orderness_ms", "idle_after_ms", "max_future_ms", "revise_within_ms"):
            if getattr(self, name) < 0:
                raise ValueError(f"watermark rule {name} is {getattr(self, name)}, expected 0 or more")

    @property
    def version(self) -> str:
        """Eight hex digits that differ whenever the same log could give other sessions."""
        named = {**asdict(self), "end_events": sorted(self.end_events), "core": CORE_RULES_NUMBER}
        if not self.revise_within_ms:
            del named["revise_within_ms"]  # as before there was this rule
        return hashlib.sha256(msgspec.json.encode(named, order="sorted")).hexdigest()[:8]
