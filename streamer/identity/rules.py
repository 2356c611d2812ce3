"""The rules of attribution that settings can change."""

from __future__ import annotations

from dataclasses import dataclass

DAY_MS = 86_400_000


@dataclass(frozen=True)
class IdentityRules:
    """Limits of attribution and of the user's record, from the settings `identity.*`; durations in ms."""

    lookback_ms: int = 30 * DAY_MS
    """How far from a session a tie may be, before or after it, inclusive."""
    max_users: int = 3
    """A visitor tied to more users than this within the lookback is shared."""
    max_visitors: int = 50
    """Of a user with more visitors than this only sessions with a login count."""
    history_ms: int = 90 * DAY_MS
    half_life_ms: int = 7 * DAY_MS
    no_ids: frozenset[str] = frozenset(("0", "null", "none", "undefined", "anonymous", "nan"))
    """Values that stand for a missing customer id, in lower case."""

    def names_user(self, user_id: str | None) -> bool:
        """Whether the value identifies a customer. Zeros and hyphens alone, as in an empty UUID, don't."""
        return user_id is not None and user_id.lower() not in self.no_ids and bool(user_id.strip("0- "))
