"""What is known of one visitor: ties to users, and anonymous sessions that wait for one.

A tie reaches the sessions that closed within the lookback before or after it. Ties and sessions may come in
any order; each question is answered from times alone, so what is pruned late changes no answer.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from itertools import pairwise
from operator import attrgetter

import msgspec

from streamer.identity.rules import DAY_MS, IdentityRules

MAX_TIES = 32
"""Ties of one visitor above which redundant ones are dropped."""
FLOOD_TIES = 256
"""Ties above which, redundant or not, the visitor is taken for shared."""
MAX_WAITING = 64
"""Anonymous sessions of one visitor that wait for a tie: the newest. A user's record holds as many."""

SOMEBODY = ""
"""User of a tie whose user is erased: what it reaches is nobody's."""

OPEN_AT_MOST_MS = DAY_MS
"""After an erasure, for a session that was open then."""


class Tie(msgspec.Struct, array_like=True, frozen=True, order=True):
    """Names a user at a moment (ms UTC): the close of a session with a login, or the arrival of a link."""

    at: int
    user_id: str
    confidence: float
    span_ms: int = 0
    """How long before `at` the session began; 0 of a link."""

    def is_erased(self, until: int) -> bool:
        return is_erased(until, self.at, self.at - self.span_ms)


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """Whose an anonymous session is: a user's, or nobody's for lack of ties or for too many."""

    user_id: str | None = None
    confidence: float = 0.0
    is_ambiguous: bool = False


ANONYMOUS = Answer()
AMBIGUOUS = Answer(is_ambiguous=True)


def is_erased(until: int, at: int, since: int) -> bool:
    """Whether an erasure of a user takes a login: of a session that began at `since` and closed at `at`.

    All times are in ms UTC. A session that is open at the moment of the erasure, `until`, goes with it: the
    user's record may show it already, and without this it would be back once the session closes.
    """
    return at <= until or (since <= until and at - until <= OPEN_AT_MOST_MS)


class Waiting(msgspec.Struct, array_like=True):
    """An anonymous session, and whose it is for now."""

    closed_at: int
    session_id: str
    session: bytes
    """Packed."""
    answer: Answer = ANONYMOUS

    def settled_after(self, rules: IdentityRules) -> int:
        """The last moment, ms UTC, at which something may attribute it to another: where a tie reaches it, an
        unlink, as long as it may stand in a record; else a tie."""
        reach = rules.lookback_ms
        return self.closed_at + (max(rules.history_ms, reach) if self.is_tied else reach)

    @property
    def is_tied(self) -> bool:
        """Whether a tie reaches it."""
        return self.answer.user_id is not None or self.answer.is_ambiguous


_by_age = attrgetter("closed_at", "session_id")


class VisitorTies(msgspec.Struct, array_like=True):
    """State of one visitor."""

    ties: list[Tie] = []
    """In order of time."""
    unlinked: dict[str, int] = {}
    """User -> moment in ms UTC up to which (inclusive) nothing ties the visitor to them."""
    waiting: list[Waiting] = []
    """In order of (closed_at, session_id)."""
    shared: list[tuple[int, int]] = []
    """Stretches of `closed_at`, inclusive, in which a session is ambiguous whatever ties are still known."""

    @property
    def is_empty(self) -> bool:
        return not (self.ties or self.unlinked or self.waiting or self.shared)

    def is_shared_at(self, closed_at: int) -> bool:
        """Whether a session that closed then is ambiguous for good."""
        return any(first <= closed_at <= last for first, last in self.shared)

    def answer(self, closed_at: int, lookback_ms: int) -> Answer:
        """Whose an anonymous session that closed then is."""
        if self.shared and self.is_shared_at(closed_at):
            return AMBIGUOUS
        found: Tie | None = None
        for tie in self.ties:
            if abs(tie.at - closed_at) <= lookback_ms:
                if found is not None and found.user_id != tie.user_id:
                    return AMBIGUOUS
                if found is None or found.confidence < tie.confidence:
                    found = tie
        if found is None:
            return ANONYMOUS
        return AMBIGUOUS if found.user_id == SOMEBODY else Answer(found.user_id, found.confidence)

    def tie(self, tie: Tie, lookback_ms: int, max_users: int, settled: int) -> None:
        """Add a tie. Every unlink before `settled` (ms UTC) has been taken in.

        Of a shared visitor only stretches remain, and of many ties those that some answer depends on.
        """
        if tie in self.ties or tie.at <= self.unlinked.get(tie.user_id, -1):
            return
        self.ties.append(tie)
        self.ties.sort()
        near = {each.user_id for each in self.ties if abs(each.at - tie.at) <= lookback_ms}
        if len(near) > max_users:
            self._share(lookback_ms)
        if len(self.ties) > MAX_TIES:
            self.ties = _irredundant(self.ties, lookback_ms, settled)
        if len(self.ties) > FLOOD_TIES:
            self.shared = _joined(
                [*self.shared, (self.ties[0].at - lookback_ms, self.ties[-1].at + lookback_ms)]
            )
            self._forget_answered(lookback_ms)

    def untie(self, concerned: Callable[[Tie], bool]) -> list[Tie]:
        """Remove ties; returns them."""
        removed = [tie for tie in self.ties if concerned(tie)]
        self.ties = [tie for tie in self.ties if not concerned(tie)]
        return removed

    def wait(self, session: Waiting) -> None:
        """Add an anonymous session; the oldest goes if there is no room for it any more."""
        insort(self.waiting, session, key=_by_age)
        del self.waiting[:-MAX_WAITING]

    def prune(self, sessions_read: int, links_read: int, rules: IdentityRules) -> None:
        """Forget what no session that closes, and no link that arrives, from those moments on depends on."""
        both = min(sessions_read, links_read)
        self.waiting = [each for each in self.waiting if each.settled_after(rules) >= both]
        # A tie decides about sessions to come, and about those waiting, even beside one that comes later.
        oldest = min(self.waiting[0].closed_at, sessions_read) if self.waiting else sessions_read
        self.ties = [tie for tie in self.ties if tie.at + rules.lookback_ms >= oldest]
        self.shared = [stretch for stretch in self.shared if stretch[1] >= oldest]
        self.unlinked = {user: at for user, at in self.unlinked.items() if at >= both}

    def forget_tied(self, moment: int, rules: IdentityRules) -> None:
        """Forget tied sessions that an unlink at that moment, ms UTC, comes too late for. Others stay: a
        session that closed before it may still come and tie them."""
        self.waiting = [
            each for each in self.waiting if not each.is_tied or each.settled_after(rules) >= moment
        ]

    def next_prune(self, rules: IdentityRules) -> int:
        """The earliest moment at which `prune` may find something to forget."""
        ends = [each.settled_after(rules) for each in self.waiting]
        if self.ties:
            ends.append(self.ties[0].at + rules.lookback_ms)
        if self.shared:
            ends.append(self.shared[0][1])
        if self.unlinked:
            ends += self.unlinked.values()
        return min(ends)

    def _share(self, lookback_ms: int) -> None:
        """Keep, instead of ties, the stretches in which two users are in reach."""
        between = [
            (right.at - lookback_ms, left.at + lookback_ms)
            for left, right in pairwise(self.ties)
            if left.user_id != right.user_id and right.at - left.at <= 2 * lookback_ms
        ]
        self.shared = _joined([*self.shared, *between])
        self._forget_answered(lookback_ms)

    def _forget_answered(self, lookback_ms: int) -> None:
        """Ties whose whole reach lies in shared stretches say nothing more."""
        self.ties = [
            tie
            for tie in self.ties
            if not any(
                first <= tie.at - lookback_ms and tie.at + lookback_ms <= last for first, last in self.shared
            )
        ]


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same moments in as few stretches as can be, in order."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(stretches):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _irredundant(ties: list[Tie], lookback_ms: int, settled: int) -> list[Tie]:
    """Ties without those that two others of the user cover.

    Whatever session a tie reaches, a neighbour before or after it reaches too if the two are at most twice
    the lookback apart; with no less confidence the answer is the same. An unlink to come takes all ties up
    to `settled` together, so among these it stays so.
    """
    kept: list[Tie] = []
    for user in sorted({tie.user_id for tie in ties}):
        own: list[Tie] = []
        for tie in (tie for tie in ties if tie.user_id == user):
            while (
                len(own) >= 2
                and tie.at <= settled
                and tie.at - own[-2].at <= 2 * lookback_ms
                and own[-1].confidence <= min(own[-2].confidence, tie.confidence)
            ):
                own.pop()
            own.append(tie)
        kept += own
    return sorted(kept)
