"""The attribution stage of one partition: sessions and ties in, changes of users' records out.

The answer is a function of the sessions and ties that were read, in whatever order they came. A visitor's
state is kept as the bytes that the changelog holds, and read for the moment in which something concerns it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from streamer.identity.changes import LINK, LOGIN, Attributed, Change, Unlinked, Withdrawn
from streamer.identity.links import Link
from streamer.identity.packed import PackedSession, SessionMessage, Texts
from streamer.identity.rules import DAY_MS, IdentityRules
from streamer.identity.ties import (
    ANONYMOUS,
    MAX_WAITING,
    OPEN_AT_MOST_MS,
    SOMEBODY,
    Answer,
    Tie,
    VisitorTies,
    Waiting,
)

_encode_into = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(VisitorTies).decode
_buffer = bytearray()


def _encode(state: VisitorTies) -> bytes:
    """By way of a buffer: a million states that were cut to their size would leave as many holes."""
    _encode_into(state, _buffer)
    return bytes(_buffer)


def users_in(state: bytes) -> set[str]:
    """Users whom a visitor's state names. Raises msgspec.MsgspecError if it isn't one."""
    ties = _decode(state)
    waiting = {each.answer.user_id for each in ties.waiting if each.answer.user_id is not None}
    return {tie.user_id for tie in ties.ties} | set(ties.unlinked) | waiting


class SessionCounts(msgspec.Struct, array_like=True):
    """Final sessions by what became of them: each is in one of these."""

    login: int = 0
    link: int = 0
    ambiguous: int = 0
    anonymous: int = 0
    bots: int = 0
    unlinked: int = 0
    erased: int = 0

    @property
    def total(self) -> int:
        return sum(msgspec.structs.astuple(self))

    def waiting(self, answer: Answer, by: int) -> None:
        """Count so many more anonymous sessions with this answer."""
        if answer.user_id is not None:
            self.link += by
        elif answer.is_ambiguous:
            self.ambiguous += by
        else:
            self.anonymous += by


class Progress(msgspec.Struct, array_like=True):
    """How far the inputs were read, in ms UTC, and what still counts of erasures."""

    sessions_read: int = 0
    """The latest `closed_at`: no session to come closed earlier."""
    links_read: int = 0
    """Every link that arrived before it was read."""
    erased_visitors: dict[str, int] = {}
    """Visitor -> moment up to which (inclusive) their sessions and ties are erased."""
    erased_users: dict[str, int] = {}
    counts: SessionCounts = msgspec.field(default_factory=SessionCounts)
    texts: list[bytes] = []
    """Of the sessions that wait."""


class Taken(NamedTuple):
    """What has piled up since the last take, in order."""

    changes: list[tuple[str, Change]]
    """User and change."""
    states: dict[str, bytes | None]
    """Visitors whose state is another; None: there is none left."""
    refused: int
    """Final sessions whose `user_id` names nobody."""


class AttributionStage:
    """Visitors of one partition."""

    def __init__(self, rules: IdentityRules, progress: Progress | None = None) -> None:
        self.progress = progress or Progress()
        self.has_provisional = False
        """Whether a change is of a session that is still open."""
        self._rules = rules
        self._texts = Texts(self.progress.texts)
        self._states: dict[str, bytes] = {}
        self._by_day: defaultdict[int, list[str]] = defaultdict(list)
        """Visitors by the day on which there may be something to forget; each stands in one place."""
        self._next_day = 0
        self._changes: list[tuple[str, Change]] = []
        self._changed: set[str] = set()
        self._refused = 0

    def __len__(self) -> int:
        """Visitors with state."""
        return len(self._states)

    @property
    def has_pending(self) -> bool:
        return bool(self._changes or self._changed)

    def restore(self, visitor_id: str, state: bytes | None) -> None:
        """Put in the state that `take` gave for a visitor. Raises msgspec.MsgspecError if it isn't one."""
        if state is None:
            self._states.pop(visitor_id, None)
            return
        if visitor_id not in self._states:
            self._schedule(visitor_id, _decode(state).next_prune(self._rules))
        self._states[visitor_id] = state

    def session(self, message: bytes) -> None:
        """Take in a record of the visitors topic. Raises codec.CodecError if it isn't a VisitorIntent."""
        session = SessionMessage(message)
        user_id = session.user_id if self._rules.names_user(session.user_id) else None
        if session.is_final:
            self._sessions_read_until(session.closed_at)
            self._refused += user_id != session.user_id
        if self._is_erased(session.visitor_id, session.closed_at):
            self.progress.counts.erased += session.is_final
        elif session.is_bot:
            self._bot(user_id, session)
        elif user_id is not None:
            self._login(user_id, session, message)
        elif session.is_final:
            self._anonymous(session)

    def link(self, link: Link, at: int) -> None:
        """Take in a link or an unlink that arrived at `at`, ms UTC."""
        self.links_read_until(at)
        if self._is_erased(link.visitor_id, at):
            return
        state = self._state(link.visitor_id)
        if link.is_link:
            self._tie(state, self._unless_erased(Tie(at, link.user_id, link.confidence)))
        else:
            state.forget_tied(at, self._rules)
            state.unlinked[link.user_id] = at
            removed = state.untie(lambda tie: tie.user_id == link.user_id and tie.at <= at)
            until = self._known_until(state, link.user_id, removed, at)
            self._changes.append((link.user_id, Unlinked(link.visitor_id, until)))
            for each in state.waiting:
                if each.answer.user_id == link.user_id and each.closed_at <= at:
                    self._answer(each, ANONYMOUS)
        self._settle(link.visitor_id, state)

    def _known_until(self, state: VisitorTies, user_id: str, removed: list[Tie], at: int) -> int:
        """The latest close of a session of this partition that an unlink at `at` withdraws.

        Every partition gets a copy of it, each at a time of its own: where the visitor isn't, it must not
        withdraw what closed meanwhile. A session that closed lately is a tie here or waits; others are older.
        """
        if state.shared or len(state.waiting) == MAX_WAITING:  # some of them are known no more
            return at
        known = [
            each.closed_at
            for each in state.waiting
            if each.answer.user_id == user_id and each.closed_at <= at
        ]
        known += [tie.at for tie in removed]
        older = min(at, self.progress.sessions_read - self._rules.lookback_ms)
        return max(older, max(known, default=older))

    def links_read_until(self, at: int) -> None:
        """Every link that arrived before `at` (ms UTC) was read."""
        if at > self.progress.links_read:
            self.progress.links_read = at
            self._forget_old()

    def erase_visitor(self, visitor_id: str, until: int) -> None:
        """Forget the visitor's sessions and ties up to `until` (ms UTC, inclusive), also those to come."""
        erased = self.progress.erased_visitors
        erased[visitor_id] = max(until, erased.get(visitor_id, until))
        if visitor_id not in self._states:
            return
        state = self._state(visitor_id)
        state.untie(lambda tie: tie.at <= until)
        state.unlinked = {user: at for user, at in state.unlinked.items() if at > until}
        reach = self._rules.lookback_ms
        state.shared = [stretch for stretch in state.shared if stretch[1] - reach > until]
        for each in [each for each in state.waiting if each.closed_at <= until]:
            state.waiting.remove(each)
            self.progress.counts.waiting(each.answer, -1)
            self.progress.counts.erased += 1
        self._settle(visitor_id, state)

    def erase_user(self, user_id: str, until: int) -> None:
        """Forget whom the user's ties up to `until` (ms UTC, inclusive) name, those to come included.

        A session with a login that is open at that moment counts as one from before it. That somebody was
        there stays known: what they showed must not become another user's for it.
        """
        erased = self.progress.erased_users
        erased[user_id] = max(until, erased.get(user_id, until))
        name = user_id.encode()
        for visitor_id in [visitor for visitor, state in self._states.items() if name in state]:
            state = self._state(visitor_id)
            for tie in state.untie(lambda tie: tie.user_id == user_id and tie.is_erased(until)):
                self._tie(state, self._unless_erased(tie))
            if state.unlinked.get(user_id, until + 1) <= until:
                del state.unlinked[user_id]
            self._settle(visitor_id, state)

    def take(self) -> Taken:
        """Everything that has piled up; it is gone from here."""
        states = {visitor_id: self._states.get(visitor_id) for visitor_id in self._changed}
        taken = Taken(self._changes, states, self._refused)
        self._changes, self._changed, self._refused = [], set(), 0
        self.has_provisional = False
        return taken

    def _login(self, user_id: str, session: SessionMessage, message: bytes) -> None:
        visitor_id, closed_at, is_final = session.visitor_id, session.closed_at, session.is_final
        state = self._state(visitor_id)
        replaced = self._replaced(state, session) if is_final else []
        self._withdraw(visitor_id, replaced, user_id)
        if state.unlinked.get(user_id, -1) >= closed_at:
            self.progress.counts.unlinked += is_final
            self._withdraw_ids(user_id, session)
            if replaced:
                self._keep(visitor_id, state)
            return
        tie = self._unless_erased(Tie(closed_at, user_id, 1.0, max(closed_at - session.started_at, 0)))
        if tie.user_id == user_id:
            self._changes.append((user_id, Attributed(visitor_id, message, LOGIN, 1.0)))
            self.progress.counts.login += is_final
            self.has_provisional |= not is_final
        else:
            self.progress.counts.erased += is_final
        if is_final:
            self._tie(state, tie)
            self._settle(visitor_id, state)

    def _bot(self, user_id: str | None, session: SessionMessage) -> None:
        self.progress.counts.bots += session.is_final
        if user_id is not None:  # provisionally it may have been taken for a person's
            self._withdraw_ids(user_id, session)
        if session.is_final and session.visitor_id in self._states:
            state = self._state(session.visitor_id)
            replaced = self._replaced(state, session)
            if replaced:
                self._withdraw(session.visitor_id, replaced, None)
                self._keep(session.visitor_id, state)

    def _anonymous(self, session: SessionMessage) -> None:
        waiting = Waiting(session.closed_at, session.session_id, session.packed(self._texts))
        visitor_id = session.visitor_id
        self.progress.counts.anonymous += 1
        if visitor_id not in self._states:
            # There is no tie. Most come this way.
            self._changed.add(visitor_id)
            self._states[visitor_id] = _encode(VisitorTies(waiting=[waiting]))
            self._schedule(visitor_id, waiting.settled_after(self._rules))
        else:
            state = self._state(visitor_id)
            replaced = self._replaced(state, session)
            state.wait(waiting)
            self._settle(visitor_id, state)
            self._withdraw(visitor_id, replaced, waiting.answer.user_id)

    def _replaced(self, state: VisitorTies, session: SessionMessage) -> list[Waiting]:
        """Sessions that wait no more, for this one takes their place: it is a revision of them."""
        replaced = [
            each for each in state.waiting if each.session_id in (session.session_id, session.supersedes)
        ]
        for each in replaced:
            state.waiting.remove(each)
            self.progress.counts.waiting(each.answer, -1)
        return replaced

    def _withdraw(self, visitor_id: str, replaced: list[Waiting], heir: str | None) -> None:
        """Take sessions whose place another takes from their users; of the same user it takes it itself."""
        for each in replaced:
            user_id = each.answer.user_id
            if user_id is not None and user_id != heir:
                self._changes.append((user_id, Withdrawn(visitor_id, each.session_id)))

    def _withdraw_ids(self, user_id: str, session: SessionMessage) -> None:
        for session_id in (session.session_id, session.supersedes):
            if session_id is not None:
                self._changes.append((user_id, Withdrawn(session.visitor_id, session_id)))

    def _tie(self, state: VisitorTies, tie: Tie) -> None:
        state.tie(tie, self._rules.lookback_ms, self._rules.max_users, self.progress.links_read)

    def _settle(self, visitor_id: str, state: VisitorTies) -> None:
        """Say of each waiting session whose it is, where that has changed; then keep the state."""
        for each in state.waiting:
            before, answer = each.answer, state.answer(each.closed_at, self._rules.lookback_ms)
            if before == answer:
                continue
            if before.user_id is not None and before.user_id != answer.user_id:
                self._changes.append((before.user_id, Withdrawn(visitor_id, each.session_id)))
            if answer.user_id is not None:
                message = PackedSession(each.session).message(self._texts)
                change = Attributed(visitor_id, message, LINK, answer.confidence)
                self._changes.append((answer.user_id, change))
            self._answer(each, answer)
        if state.shared:
            state.waiting = [each for each in state.waiting if not state.is_shared_at(each.closed_at)]
        self._keep(visitor_id, state)

    def _answer(self, session: Waiting, answer: Answer) -> None:
        self.progress.counts.waiting(session.answer, -1)
        session.answer = answer
        self.progress.counts.waiting(answer, 1)

    def _is_erased(self, visitor_id: str, at: int) -> bool:
        return at <= self.progress.erased_visitors.get(visitor_id, -1)

    def _unless_erased(self, tie: Tie) -> Tie:
        """The tie, or, if its user is erased, somebody's."""
        until = self.progress.erased_users.get(tie.user_id)
        if until is None or not tie.is_erased(until):
            return tie
        return msgspec.structs.replace(tie, user_id=SOMEBODY)

    def _sessions_read_until(self, closed_at: int) -> None:
        progress = self.progress
        if closed_at <= progress.sessions_read:
            return
        progress.sessions_read = closed_at
        if progress.erased_visitors or progress.erased_users:
            progress.erased_visitors = _still(progress.erased_visitors, closed_at)
            progress.erased_users = _still(progress.erased_users, closed_at - OPEN_AT_MOST_MS)
        self._forget_old()

    def _state(self, visitor_id: str) -> VisitorTies:
        state = self._states.get(visitor_id)
        return VisitorTies() if state is None else _decode(state)

    def _keep(self, visitor_id: str, state: VisitorTies) -> None:
        is_new = visitor_id not in self._states
        self._changed.add(visitor_id)
        if not state.is_empty:
            self._states[visitor_id] = _encode(state)
            if is_new:
                self._schedule(visitor_id, state.next_prune(self._rules))
        elif not is_new:
            del self._states[visitor_id]

    def _schedule(self, visitor_id: str, next_prune: int) -> None:
        day = next_prune // DAY_MS + 1
        self._by_day[max(day, self._next_day)].append(visitor_id)

    def _forget_old(self) -> None:
        """On each new day, look at the visitors whose day has come."""
        progress = self.progress
        today = min(progress.sessions_read, progress.links_read) // DAY_MS
        if today < self._next_day:
            return
        self._next_day = today + 1
        for visitor_id in [each for day in self._days_up_to(today) for each in self._by_day.pop(day)]:
            if visitor_id not in self._states:
                continue
            state = self._state(visitor_id)
            state.prune(progress.sessions_read, progress.links_read, self._rules)
            self._changed.add(visitor_id)
            if state.is_empty:
                del self._states[visitor_id]
            else:
                self._states[visitor_id] = _encode(state)
                self._schedule(visitor_id, state.next_prune(self._rules))

    def _days_up_to(self, today: int) -> Iterator[int]:
        return (day for day in sorted(self._by_day) if day <= today)


def _still(erased: dict[str, int], sessions_read: int) -> dict[str, int]:
    """Those of which something may still come."""
    return {name: until for name, until in erased.items() if until >= sessions_read}
