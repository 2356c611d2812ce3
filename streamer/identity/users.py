"""The user stage of one partition: changes in, users' records out. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from streamer.identity.changes import Attributed, Change, Unlinked, Withdrawn
from streamer.identity.packed import AGE_BYTES, PackedSession, SessionMessage, Texts, encoded_text, text_of
from streamer.identity.rules import IdentityRules
from streamer.identity.ties import OPEN_AT_MOST_MS, is_erased
from streamer.identity.user_record import HELD_SESSIONS, HeldSession, held_session, user_record

SPARE_SESSIONS = 64
"""Sessions held behind those that count, to take their place where they are withdrawn."""
_MOST = HELD_SESSIONS + SPARE_SESSIONS

_BETWEEN = "\0"
"""Of a key of the state, between the user and the session, whose id has none."""


def user_in(key: str) -> str:
    """The user whose session a state is of, by its key."""
    return key.rpartition(_BETWEEN)[0]


def visitor_in(state: bytes) -> str:
    """The visitor of the session in a user's state. Raises ValueError if it isn't one."""
    return text_of(HeldSession(state).session.visitor_id)


class UserProgress(msgspec.Struct, array_like=True):
    """What a shard knows beside its users."""

    latest: int = 0
    """The latest `closed_at` of any session so far, ms UTC."""
    erased_visitors: dict[str, int] = {}
    """Visitor -> moment up to which (inclusive) their sessions are erased."""
    erased_users: dict[str, int] = {}
    texts: list[bytes] = []
    """Of the sessions that are held."""


class TakenUsers(NamedTuple):
    """What has piled up since the last take."""

    records: list[tuple[str, bytes | None]]
    """User and UserIntent message; None: nothing is left of them."""
    states: dict[str, bytes | None]
    """Of each session that has come, or, None, gone."""
    withdrawn: int
    """Sessions that were taken out of users' records, other than by an erasure."""


class UserStage:
    """Users of one partition; of each the newest sessions, whatever record they give."""

    def __init__(self, rules: IdentityRules, progress: UserProgress | None = None) -> None:
        self.progress = progress or UserProgress()
        self.has_provisional = False
        """Whether a record that has changed got a session that is still open."""
        self._rules = rules
        self._texts = Texts(self.progress.texts)
        self._held: dict[str, list[bytes]] = {}
        """Newest first, which their bytes have greatest."""
        self._changed: dict[str, None] = {}
        self._states: dict[str, bytes | None] = {}
        """What has come and gone."""
        self._withdrawn = 0

    def __len__(self) -> int:
        """Users with state."""
        return len(self._held)

    @property
    def has_pending(self) -> bool:
        return bool(self._changed)

    def restore(self, key: str, state: bytes | None) -> None:
        """Put in the last state that `take` gave for a key. Raises ValueError if it isn't one."""
        if state is None:
            return
        HeldSession(state)
        held = self._held.setdefault(user_in(key), [])
        held.append(state)
        if len(held) > 1 and held[-2] < state:
            held.sort(reverse=True)

    def apply(self, user_id: str, change: Change) -> None:
        """Take in a record of the repartition topic. Raises codec.CodecError if its session isn't one."""
        if isinstance(change, Attributed):
            self._attribute(user_id, change)
        elif isinstance(change, Withdrawn):
            self._withdraw(user_id, self._with_ids(user_id, change.session_id, None))
        else:
            self._withdraw(user_id, self._of_visitor(user_id, change))

    def erase_visitor(self, visitor_id: str, until: int) -> None:
        """Forget sessions of the visitor up to `until` (ms UTC, inclusive), those to come included."""
        erased = self.progress.erased_visitors
        erased[visitor_id] = max(until, erased.get(visitor_id, until))
        for user_id in list(self._held):
            self._drop(user_id, self._of_visitor(user_id, Unlinked(visitor_id, until)))

    def erase_user(self, user_id: str, until: int) -> None:
        """Forget the user's sessions up to `until` (ms UTC, inclusive), those to come included, and those
        with a login that are open at that moment."""
        erased = self.progress.erased_users
        erased[user_id] = max(until, erased.get(user_id, until))
        held = self._held.get(user_id, [])
        self._drop(user_id, [each for each in held if _is_erased(HeldSession(each), until)])
        self._changed[user_id] = None  # whatever is held: a record from earlier settings goes too

    def record(self, user_id: str) -> bytes | None:
        """The user's UserIntent message as of now; None if there is nothing of them."""
        return user_record(user_id, self._held.get(user_id, []), self._rules, self._texts)

    def take(self) -> TakenUsers:
        """Everything that has piled up; it is gone from here."""
        records = [(user_id, self.record(user_id)) for user_id in self._changed]
        taken = TakenUsers(records, self._states, self._withdrawn)
        self._changed, self._states, self._withdrawn = {}, {}, 0
        self.has_provisional = False
        return taken

    def _withdraw(self, user_id: str, sessions: list[bytes]) -> None:
        self._withdrawn += len(sessions)
        self._drop(user_id, sessions)

    def _attribute(self, user_id: str, change: Attributed) -> None:
        session = SessionMessage(change.session)
        closed_at, progress = session.closed_at, self.progress
        state = held_session(session, change.attribution, change.confidence, self._texts)
        if closed_at > progress.latest:
            self._go_on_until(closed_at)
        replaced = self._with_ids(user_id, session.session_id, session.supersedes)
        if replaced == [state]:
            return
        self._drop(user_id, replaced)
        until = progress.erased_users.get(user_id)
        if closed_at > progress.erased_visitors.get(change.visitor_id, -1) and (
            until is None or not _is_erased(HeldSession(state), until)
        ):
            self._hold(user_id, session.session_id, state)
            self.has_provisional |= not session.is_final

    def _hold(self, user_id: str, session_id: str, state: bytes) -> None:
        """The newest are held, however old: where a newer one is withdrawn, the history reaches back."""
        held = self._held.setdefault(user_id, [])
        if len(held) == _MOST and state < held[-1]:
            return
        held.append(state)
        self._states[_key(user_id, session_id)] = state
        self._changed[user_id] = None
        if len(held) > 1:
            held.sort(reverse=True)
            self._drop(user_id, held[_MOST:])

    def _drop(self, user_id: str, sessions: list[bytes]) -> None:
        for state in sessions:
            held = self._held[user_id]
            held.remove(state)
            self._states[_key(user_id, text_of(HeldSession(state).session.session_id))] = None
            self._changed[user_id] = None
            if not held:
                del self._held[user_id]

    def _with_ids(self, user_id: str, session_id: str, other_id: str | None) -> list[bytes]:
        held = self._held.get(user_id)
        if held is None:
            return []
        wanted = encoded_text(session_id)
        other = wanted if other_id is None else encoded_text(other_id)
        return [each for each in held if each.startswith((wanted, other), AGE_BYTES)]

    def _of_visitor(self, user_id: str, unlinked: Unlinked) -> list[bytes]:
        """Sessions that an unlink takes away."""
        wanted = encoded_text(unlinked.visitor_id)
        return [
            each
            for each in self._held.get(user_id, ())
            if wanted in each and _is_of(HeldSession(each).session, wanted, unlinked.until)
        ]

    def _go_on_until(self, closed_at: int) -> None:
        """Erasures are kept while a session from before them may still be attributed."""
        progress = self.progress
        kept_from = closed_at - max(2 * self._rules.lookback_ms, OPEN_AT_MOST_MS)
        progress.latest = closed_at
        for erased in (progress.erased_visitors, progress.erased_users):
            for name in [name for name, until in erased.items() if until < kept_from]:
                del erased[name]


def _is_erased(held: HeldSession, until: int) -> bool:
    session = held.session
    return is_erased(until, session.closed_at, session.started_at if held.is_login else session.closed_at)


def _is_of(session: PackedSession, visitor_id: bytes, until: int) -> bool:
    return session.visitor_id == visitor_id and session.closed_at <= until


def _key(user_id: str, session_id: str) -> str:
    return f"{user_id}{_BETWEEN}{session_id}"
