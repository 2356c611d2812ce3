"""Customers' latest records of live held against those of the replay. Pure.

Records that are equal are equal, whatever was read. Where they differ, it is a difference only if everything
that they could depend on was compared; else the customer is undetermined and counted by the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamer.identity.rules import IdentityRules
from streamer.replay.comparison import NAMED, State
from streamer.replay.digests import TOLERANCE
from streamer.schemas.codec import Record

_COMPUTED = frozenset(("embedding", "profile_embedding", "probability", "parent_probability", "presence"))
"""Fields whose numbers the model computed, at any depth."""
OPEN = "with a session that is open"
UNREAD = "may depend on sessions or ties that were not compared"
ERASED = "tied to a visitor who was erased, perhaps in the middle of a session"


@dataclass
class UserComparison:
    """What the comparison of the customers came to."""

    users: int = 0
    """Who were compared."""
    rounded: int = 0
    """Of these, equal but for the last bits of what the model computed."""
    counts: dict[str, int] = field(default_factory=dict)
    """`missing` (live lacks the record), `extra` (live alone has it), `different` -> customers."""
    named: dict[str, list[str]] = field(default_factory=dict)
    """The first few user_ids of each."""
    undetermined: dict[str, int] = field(default_factory=dict)
    """Reason -> customers who were left out."""
    sessions: dict[str, int] = field(default_factory=dict)
    """Of the replay, by what became of them."""

    @property
    def state(self) -> State:
        if self.counts:
            return "different"
        return "undetermined" if self.undetermined and not self.users else "equal"

    def as_dict(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "users": self.users,
            "within_tolerance": self.rounded,
            "differences": dict(self.counts),
            "user_ids": dict(self.named),
            "undetermined": dict(self.undetermined),
            "sessions": dict(self.sessions),
        }

    def note(self, how: str, user_id: str) -> None:
        self.counts[how] = self.counts.get(how, 0) + 1
        named = self.named.setdefault(how, [])
        if len(named) < NAMED:
            named.append(user_id)


@dataclass(frozen=True)
class Unknown:
    """What the replay doesn't know, and live may."""

    until_ms: int | None = None
    """Sessions may have closed, or ties may have come, up to this moment (ms UTC); None: all are known."""
    open_ids: Collection[str] = ()
    """Sessions that live may have published provisionally."""
    erased_users: Collection[str] = ()
    """Users whom something ties to a visitor of whom live has dropped clicks of an open session."""
    because: str | None = None
    """Why no difference says anything; None: it may."""


def compare_users(
    live: Mapping[str, Record], replayed: Mapping[str, Record], unknown: Unknown, rules: IdentityRules
) -> UserComparison:
    """Both by user_id; users without a record aren't in them."""
    compared = UserComparison()
    for user_id in sorted(live.keys() | replayed.keys()):
        mine, lives = replayed.get(user_id), live.get(user_id)
        if mine is not None and mine == lives:
            compared.users += 1
        elif mine is not None and lives is not None and differ_by_rounding(mine, lives):
            compared.users += 1
            compared.rounded += 1
        elif (reason := _why_undetermined(user_id, mine, lives, unknown, rules)) is not None:
            compared.undetermined[reason] = compared.undetermined.get(reason, 0) + 1
        else:
            compared.users += 1
            compared.note("missing" if lives is None else "extra" if mine is None else "different", user_id)
    return compared


def differ_by_rounding(one: Record, other: Record) -> bool:
    """Whether nothing differs but numbers that the model computed, and these by at most TOLERANCE."""
    return _alike(_in_fixed_order(one), _in_fixed_order(other), is_computed=False)


def _in_fixed_order(record: Record) -> Record:
    """Of a profile's intents the most likely is first, which rounding may change."""
    return {**record, "profile": sorted(record["profile"], key=lambda intent: str(intent["intent_id"]))}


def _alike(one: Any, other: Any, *, is_computed: bool) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _alike(value, other[name], is_computed=name in _COMPUTED) for name, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(
            _alike(a, b, is_computed=is_computed) for a, b in zip(one, other, strict=True)
        )
    if is_computed and isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= TOLERANCE
    return bool(one == other)


def _why_undetermined(
    user_id: str, mine: Record | None, lives: Record | None, unknown: Unknown, rules: IdentityRules
) -> str | None:
    if unknown.because is not None:
        return unknown.because
    if user_id in unknown.erased_users:
        return ERASED
    if lives is not None and (
        not lives["is_final"] or any(each["session_id"] in unknown.open_ids for each in lives["history"])
    ):
        return OPEN
    # A record holds sessions of `history` before its latest. Whose they are, ties within `lookback` say.
    oldest = min(each["closed_at"] for each in (mine, lives) if each is not None)
    depends_from = oldest - rules.history_ms - rules.lookback_ms
    return UNREAD if unknown.until_ms is not None and depends_from <= unknown.until_ms else None
