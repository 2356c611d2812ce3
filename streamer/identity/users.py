"""The user stage of one partition: changes in, users' records out. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from schemas import codec
from streamer.identity.changes import Attributed, Change, Unlinked, Withdrawn
from streamer.identity.rules import IdentityRules
from streamer.identity.user_record import HELD_SESSIONS, Record, UserSession, user_record

SPARE_SESSIONS = 64
"""Sessions held behind those that count, to take their place where they are withdrawn."""


class _Held(msgspec.Struct, array_like=True):
    session_id: str
    visitor_id: str
    closed_at: int
    started_at: int
    session: bytes
    attribution: str
    confidence: float

    @property
    def age_key(self) -> tuple[int, int, str]:
        return self.closed_at, self.started_at, self.session_id


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Held]).decode


def visitors_in(state: bytes) -> set[str]:
    """Visitors of whom a user's state holds sessions. Raises msgspec.MsgspecError if it isn't one."""
    return {each.visitor_id for each in _decode(state)}


class UserProgress(msgspec.Struct, array_like=True):
    """What a shard knows beside its users."""

    latest: int = 0
    """The latest `closed_at` of any session so far, ms UTC."""
    erased_visitors: dict[str, int] = {}
    """Visitor -> moment up to which (inclusive) their sessions are erased."""
    erased_users: dict[str, int] = {}


class TakenUsers(NamedTuple):
    """What has piled up since the last take."""

    records: list[tuple[str, bytes | None]]
    """User and UserIntent message; None: nothing is left of them."""
    states: dict[str, bytes | None]
    """Users whose state is another; None: there is none left."""


class UserStage:
    """Users of one partition; of each the newest sessions, whatever record they give."""

    def __init__(self, rules: IdentityRules, progress: UserProgress | None = None) -> None:
        self.progress = progress or UserProgress()
        self._rules = rules
        self._states: dict[str, bytes] = {}
        self._changed: dict[str, None] = {}

    def __len__(self) -> int:
        """Users with state."""
        return len(self._states)

    @property
    def has_pending(self) -> bool:
        return bool(self._changed)

    def restore(self, user_id: str, state: bytes | None) -> None:
        """Put in the state that `take` gave for a user. Raises msgspec.MsgspecError if it isn't one."""
        if state is None:
            self._states.pop(user_id, None)
        else:
            _decode(state)
            self._states[user_id] = state

    def apply(self, user_id: str, change: Change) -> None:
        """Take in a record of the repartition topic. Raises codec.CodecError if its session isn't one."""
        held = self._held(user_id)
        if isinstance(change, Attributed):
            self._attribute(user_id, held, change)
        elif isinstance(change, Withdrawn):
            self._keep(user_id, held, [each for each in held if each.session_id != change.session_id])
        else:
            self._keep(user_id, held, _without(held, change))

    def erase_visitor(self, visitor_id: str, until: int) -> None:
        """Forget sessions of the visitor up to `until` (ms UTC, inclusive), those to come included."""
        erased = self.progress.erased_visitors
        erased[visitor_id] = max(until, erased.get(visitor_id, until))
        name = visitor_id.encode()
        for user_id in [user for user, state in self._states.items() if name in state]:
            held = self._held(user_id)
            self._keep(user_id, held, _without(held, Unlinked(visitor_id, until)))

    def erase_user(self, user_id: str, until: int) -> None:
        """Forget the user's sessions up to `until` (ms UTC, inclusive), those to come included."""
        erased = self.progress.erased_users
        erased[user_id] = max(until, erased.get(user_id, until))
        held = self._held(user_id)
        self._keep(user_id, held, [each for each in held if each.closed_at > until])
        self._changed[user_id] = None  # whatever is held: a record from earlier settings goes too

    def record(self, user_id: str) -> Record | None:
        """The user's UserIntent as of now; None if there is nothing of them."""
        sessions = [
            UserSession(codec.decode(each.session)[1], each.attribution, each.confidence)
            for each in self._held(user_id)
        ]
        return user_record(user_id, sessions, self._rules)

    def take(self) -> TakenUsers:
        """Everything that has piled up; it is gone from here."""
        records = []
        for user_id in self._changed:
            record = self.record(user_id)
            records.append((user_id, None if record is None else codec.encode("user_intent", record)))
        taken = TakenUsers(records, {user_id: self._states.get(user_id) for user_id in self._changed})
        self._changed = {}
        return taken

    def _attribute(self, user_id: str, held: list[_Held], change: Attributed) -> None:
        record = codec.decode(change.session)[1]
        closed_at, progress = record["closed_at"], self.progress
        if closed_at > progress.latest:
            self._go_on_until(closed_at)
        replaced = (record["session_id"], record["supersedes"])
        left = [each for each in held if each.session_id not in replaced]
        if closed_at > max(
            progress.erased_visitors.get(change.visitor_id, -1), progress.erased_users.get(user_id, -1)
        ):
            left.append(
                _Held(
                    record["session_id"],
                    change.visitor_id,
                    closed_at,
                    record["started_at"],
                    change.session,
                    change.attribution,
                    change.confidence,
                )
            )
        self._keep(user_id, held, left)

    def _go_on_until(self, closed_at: int) -> None:
        """Erasures are kept while a session from before them may still be attributed."""
        progress, kept_from = self.progress, closed_at - 2 * self._rules.lookback_ms
        progress.latest = closed_at
        for erased in (progress.erased_visitors, progress.erased_users):
            for name in [name for name, until in erased.items() if until < kept_from]:
                del erased[name]

    def _held(self, user_id: str) -> list[_Held]:
        state = self._states.get(user_id)
        return [] if state is None else _decode(state)

    def _keep(self, user_id: str, before: list[_Held], held: list[_Held]) -> None:
        """The newest of them, however old: where a newer one is withdrawn, the history reaches back."""
        held.sort(key=lambda each: each.age_key, reverse=True)
        held = held[: HELD_SESSIONS + SPARE_SESSIONS]
        if held == before:
            return
        self._changed[user_id] = None
        if held:
            self._states[user_id] = _encode(held)
        else:
            self._states.pop(user_id, None)


def _without(held: list[_Held], unlinked: Unlinked) -> list[_Held]:
    return [
        each for each in held if each.visitor_id != unlinked.visitor_id or each.closed_at > unlinked.until
    ]
