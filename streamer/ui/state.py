"""What the live page knows: records in, rows and counts out.

Its memory is bounded, however many records come. It reads no clock: times are arguments, in ms UTC. Counts
are of all sessions; rows are of the newest, and fewer where they come faster than anybody reads.
"""

from __future__ import annotations

import zlib
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from streamer.client.table import PastSession, RankedIntent, Reason
from streamer.ui.projection import Point

HELD_SESSIONS = 2000
HELD_CUSTOMERS = 2000
HAND_OVERS = 20
READABLE_A_MINUTE = 240
"""Sessions that a list may gain; of more it shows a sample."""
SCALES_MS = {2 * 60_000: 2_000, 10 * 60_000: 10_000, 2 * 3_600_000: 120_000}
"""How far back shares go, and in which steps."""
MOST_REASONS = 50
"""Of dead letters; what comes beyond them is counted under OTHERS."""
OTHERS = "others"
NO_LABEL = ""
"""The outcome of sessions for which the model names no intent."""
_RATE_MS = 60_000
_DRAINS = 1000
"""Of a partition that are remembered."""


class Session(msgspec.Struct, frozen=True):
    """A closed session, as its newest record has it. Times in ms UTC."""

    session_id: str
    visitor_id: str
    user_id: str | None
    started_at: int
    ended_at: int
    closed_at: int
    event_count: int
    close_reason: str
    revision: int
    is_bot: bool
    rules_version: str
    model_version: str
    intents: tuple[RankedIntent, ...]
    top_intent: str | None
    abstain_reason: str | None
    reasons: tuple[Reason, ...]
    """Empty where the worker doesn't publish them, too."""
    partition: int
    published_at: int
    """When the broker wrote the record."""

    @property
    def outcome(self) -> str:
        """Id of the top intent, or NO_LABEL."""
        return NO_LABEL if self.top_intent is None else self.top_intent

    @property
    def label(self) -> RankedIntent | None:
        """The top intent; None where the model names none."""
        return next((each for each in self.intents if each.intent_id == self.top_intent), None)


class Customer(NamedTuple):
    """What is known of a customer, as the newest record has it."""

    user_id: str
    visitor_id: str
    session_id: str
    event_count: int
    is_final: bool
    label: RankedIntent | None
    """Of the latest session."""
    attribution: str
    confidence: float
    history: tuple[PastSession, ...]
    """Newest first."""
    profile: tuple[RankedIntent, ...]
    sessions: int
    visitors: int
    published_at: int


@dataclass(frozen=True)
class Filter:
    """Which sessions; the defaults let all pass but those of bots."""

    outcome: str | None = None
    """Id of an intent or of a parent, or NO_LABEL."""
    only_customers: bool = False
    with_bots: bool = False

    def __call__(self, session: Session) -> bool:
        label = session.label
        return (
            (self.with_bots or not session.is_bot)
            and (not self.only_customers or session.user_id is not None)
            and (self.outcome is None or self.outcome in (session.outcome, label and label.parent))
        )


class Recent(NamedTuple):
    """The newest sessions. `one_in`: how many each row stands for; 1: none is left out."""

    rows: list[Session]
    one_in: int
    a_minute: int
    """All that came in the last minute, whatever the filter."""


class Shares(NamedTuple):
    """Sessions by outcome in equal steps of time."""

    starts_ms: list[int]
    counts: Mapping[str, list[int]]
    """By outcome, as many numbers as there are steps; outcomes by their sums, largest first."""

    @property
    def totals(self) -> dict[str, int]:
        return {outcome: sum(each) for outcome, each in self.counts.items()}


class _Kind(NamedTuple):
    """What counts are kept by: all that a filter asks for."""

    outcome: str
    is_bot: bool
    is_customer: bool


class Buckets:
    """Counts in equal steps of time, the newest so many of them; what is older has been forgotten."""

    def __init__(self, step_ms: int, steps: int) -> None:
        self._step_ms = step_ms
        self._steps = steps
        self._counts: dict[int, Counter[_Kind]] = {}
        self._newest = -1

    def add(self, at_ms: int, kind: _Kind, count: int) -> None:
        number = at_ms // self._step_ms
        if number > self._newest:
            self._newest = number
            self._counts = {n: each for n, each in self._counts.items() if n > number - self._steps}
        if number > self._newest - self._steps:
            self._counts.setdefault(number, Counter())[kind] += count

    def since(self, now_ms: int) -> Iterator[tuple[int, Counter[_Kind]]]:
        """Start of each step up to now, oldest first, and what it counted."""
        last = now_ms // self._step_ms
        for number in range(last - self._steps + 1, last + 1):
            yield number * self._step_ms, self._counts.get(number, Counter())


class PageState:
    """All that the page shows of sessions and customers."""

    def __init__(self) -> None:
        self.version = 0
        """Another number: something has changed."""
        self.sessions_seen = 0
        self.late = 0
        self.unreadable = 0
        """Records that are none of their topic's."""
        self.dead: Counter[str] = Counter()
        """Dead letters by reason."""
        self.hand_overs: deque[Customer] = deque(maxlen=HAND_OVERS)
        """Customers whose visitor has just logged in and goes on browsing, newest first."""
        self.labels: dict[str, str] = {}
        """Names of intents by id, as the records have them."""
        self.parents: dict[str, str | None] = {}
        """Parent of each intent, by id."""
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._customers: OrderedDict[str, Customer] = OrderedDict()
        self._buckets = {reach: Buckets(step, reach // step) for reach, step in SCALES_MS.items()}
        self._drains_ms: dict[int, set[int]] = {}
        self._places: OrderedDict[str, Point] = OrderedDict()

    def session(self, record: Mapping[str, Any], partition: int, published_at: int) -> None:
        """Take a record of the intents topic. One of a session that is still open changes nothing."""
        if not record["is_final"]:
            return
        found = _session(record, partition, published_at)
        known = self._sessions.get(found.session_id)
        if known is not None and found.revision <= known.revision:
            return
        self.version += 1
        for replaced in (found.session_id, record["supersedes"]):
            self._take_back(replaced)
        for each in found.intents:
            self.labels[each.intent_id] = each.label
            self.parents[each.intent_id] = each.parent
        self._sessions[found.session_id] = found
        self._count(found, 1)
        if found.close_reason == "drain":
            self._note_drain(partition, found.closed_at)
        if len(self._sessions) > HELD_SESSIONS:
            self._sessions.popitem(last=False)

    def customer(self, user_id: str, record: Mapping[str, Any] | None, published_at: int) -> None:
        """Take a record of the users topic; None: nothing is left of the customer."""
        self.version += 1
        self._customers.pop(user_id, None)
        if record is None:
            self._forget(lambda each: each.user_id == user_id)
            return
        found = _customer(record, published_at)
        self._customers[user_id] = found
        if len(self._customers) > HELD_CUSTOMERS:
            self._customers.popitem(last=False)
        if not found.is_final:
            others = [each for each in self.hand_overs if each.session_id != found.session_id]
            self.hand_overs = deque([found, *others], maxlen=HAND_OVERS)

    def erased_visitor(self, visitor_id: str) -> None:
        """Forget all that is held of a visitor. Counts stay."""
        self.version += 1
        self._forget(lambda each: each.visitor_id == visitor_id)

    def place(self, session_id: str, point: Point) -> None:
        """Note where a session lies on the map; its record may come before or after."""
        self.version += 1
        self._places.pop(session_id, None)
        self._places[session_id] = point
        if len(self._places) > HELD_SESSIONS:
            self._places.popitem(last=False)

    def late_click(self) -> None:
        self.version += 1
        self.late += 1

    def unreadable_record(self) -> None:
        self.version += 1
        self.unreadable += 1

    def dead_letter(self, reason: str) -> None:
        self.version += 1
        is_known = reason in self.dead or len(self.dead) < MOST_REASONS
        self.dead[reason if is_known else OTHERS] += 1

    def a_minute(self, now_ms: int) -> int:
        """Sessions that came within the last minute."""
        steps = self._buckets[min(SCALES_MS)].since(now_ms)
        return sum(counts.total() for start, counts in steps if start > now_ms - _RATE_MS)

    def recent(self, wanted: Filter, most: int, now_ms: int) -> Recent:
        """The newest that pass, newest first.

        Too many to read: every second, fourth or eighth, and so on, chosen by its id, so that a session that
        is shown stays.
        """
        a_minute, one_in = self.a_minute(now_ms), 1
        while a_minute > READABLE_A_MINUTE * one_in:
            one_in *= 2
        rows = (each for each in self._newest_first() if wanted(each) and _drawn(each, one_in))
        return Recent(list(islice(rows, most)), one_in, a_minute)

    def shares(self, wanted: Filter, reach_ms: int, now_ms: int) -> Shares:
        """Of all sessions that pass, by outcome. `reach_ms`: one of SCALES_MS."""
        starts, kept = [], []
        for start, counts in self._buckets[reach_ms].since(now_ms):
            starts.append(start)
            kept.append(self._by_outcome(counts, wanted))
        totals = sum(kept, Counter())
        return Shares(
            starts, {outcome: [each[outcome] for each in kept] for outcome, _ in totals.most_common()}
        )

    def placed(self, most: int) -> list[tuple[Session, Point]]:
        """The newest sessions that have a place, those of bots left out."""
        found = (
            (each, self._places[each.session_id])
            for each in self._newest_first()
            if each.session_id in self._places and not each.is_bot
        )
        return list(islice(found, most))

    def newest(self, wanted: Filter, most: int | None) -> list[Session]:
        """Those that are held and pass, newest first. `most`: None: all of them."""
        return list(islice(filter(wanted, self._newest_first()), most))

    def groups(self) -> list[str]:
        """Parents of all intents that have come, in an order that stays as long as no new one comes."""
        return sorted({parent for parent in self.parents.values() if parent})

    def find_session(self, session_id: str) -> Session | None:
        """None: it was never here, or has been forgotten."""
        return self._sessions.get(session_id)

    def drains_ms(self, partition: int) -> set[int]:
        """When a worker closed everything that was open in a partition, as far as the page knows."""
        return self._drains_ms.get(partition, set())

    def find_customer(self, user_id: str) -> Customer | None:
        return self._customers.get(user_id)

    def sessions_of(self, visitor_id: str) -> list[Session]:
        """Those that are held, newest first."""
        return [each for each in self._newest_first() if each.visitor_id == visitor_id]

    def customers_of(self, session_ids: Iterable[str]) -> dict[str, tuple[Customer, PastSession]]:
        """Whose sessions they are, and why, as far as held records of customers say."""
        wanted = set(session_ids)
        return {
            past.session_id: (customer, past)
            for customer in self._customers.values()
            for past in customer.history
            if past.session_id in wanted
        }

    def _newest_first(self) -> list[Session]:
        """By publication: partitions are read in any order."""
        return sorted(self._sessions.values(), key=lambda each: each.published_at, reverse=True)

    def _note_drain(self, partition: int, closed_at: int) -> None:
        drains = self._drains_ms.setdefault(partition, set())
        drains.add(closed_at)
        if len(drains) > _DRAINS:
            drains.remove(min(drains))

    def _take_back(self, session_id: str | None) -> None:
        """Another record takes its place."""
        replaced = self._sessions.pop(session_id, None) if session_id else None
        if replaced is not None:
            self._count(replaced, -1)

    def _count(self, session: Session, count: int) -> None:
        self.sessions_seen += count
        kind = _Kind(session.outcome, session.is_bot, session.user_id is not None)
        for buckets in self._buckets.values():
            buckets.add(session.published_at, kind, count)

    def _by_outcome(self, counts: Counter[_Kind], wanted: Filter) -> Counter[str]:
        found: Counter[str] = Counter()
        for kind, count in counts.items():
            if kind.is_bot and not wanted.with_bots:
                continue
            if wanted.only_customers and not kind.is_customer:
                continue
            if wanted.outcome in (None, kind.outcome, self.parents.get(kind.outcome)):
                found[kind.outcome] += count
        return found

    def _forget(self, is_theirs: Callable[[Session | Customer], bool]) -> None:
        for session in [each for each in self._sessions.values() if is_theirs(each)]:
            del self._sessions[session.session_id]
            self._places.pop(session.session_id, None)
        kept = [each for each in self.hand_overs if not is_theirs(each)]
        self.hand_overs = deque(kept, maxlen=HAND_OVERS)


def _drawn(session: Session, one_in: int) -> bool:
    return zlib.crc32(session.session_id.encode()) % one_in == 0


def _ranked(intents: Iterable[Mapping[str, Any]]) -> tuple[RankedIntent, ...]:
    return tuple(RankedIntent(e["intent_id"], e["label"], e["parent"], e["probability"]) for e in intents)


_FROM_RECORD = (
    *("session_id", "visitor_id", "user_id", "started_at", "ended_at", "closed_at", "event_count"),
    *("close_reason", "revision", "is_bot", "rules_version", "model_version", "top_intent", "abstain_reason"),
)


def _session(record: Mapping[str, Any], partition: int, published_at: int) -> Session:
    return Session(
        **{name: record[name] for name in _FROM_RECORD},
        intents=_ranked(record["intents"]),
        reasons=tuple(Reason(**each) for each in record.get("reasons") or ()),
        partition=partition,
        published_at=published_at,
    )


def _customer(record: Mapping[str, Any], published_at: int) -> Customer:
    intents = _ranked(record["intents"])
    names = ("user_id", "visitor_id", "session_id", "event_count", "is_final", "attribution", "confidence")
    return Customer(
        **{name: record[name] for name in names},
        label=next((each for each in intents if each.intent_id == record["top_intent"]), None),
        history=tuple(PastSession(**each) for each in record["history"]),
        profile=_ranked(record["profile"]),
        sessions=record["sessions"],
        visitors=record["visitors"],
        published_at=published_at,
    )
