"""What is left of erased visitors and customers, found by reading all topics to their end.

Only the topics that are compacted by visitor and by customer forget by a tombstone, and the states when the
worker drops them. Every other topic keeps what it has until its retention is over, and this says until when.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from streamer.errors import StreamerError
from streamer.identity import changes
from streamer.identity.attribution import users_in
from streamer.identity.users import user_in, visitor_in
from streamer.kafka.client import client_arguments
from streamer.kafka.links_topic import read_links
from streamer.kafka.snapshot import snapshot, user_of, visitors_of
from streamer.kafka.topics import find_topic
from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup
from streamer.rules_from_settings import identity_rules
from streamer.schemas import codec
from streamer.settings import Settings
from streamer.worker.changelog import ChangelogError, SessionSnapshots, decode
from streamer.worker.log_reader import LogReader, read_group_offsets
from streamer.worker.metrics import REPARTITION

_POLL_S = 0.5

Person = tuple[Literal["visitor", "user"], str]
People = frozenset[Person]


def people(visitors: Iterable[str], users: Iterable[str]) -> People:
    return frozenset((*(("visitor", each) for each in visitors), *(("user", each) for each in users)))


class UnwrittenError(StreamerError):
    """Clicks have arrived that no erasure can cover yet."""


@dataclass
class Leftover:
    """Of one topic."""

    topic: str
    records: int = 0
    """Records of these people that are still there; tombstones don't count."""
    newest: int | None = None
    """Time of the newest, ms UTC."""
    kept_until: int | None = None
    """When retention lets go of the last of them, ms UTC; None: nothing is left, or nobody can say."""


@dataclass
class Left:
    open_sessions: int
    """In the worker's state."""
    latest_intents: int
    """Visitors whom a look-up by key in the visitors topic still finds."""
    user_records: int
    """Records that a look-up by key in the users topic still finds: of these customers, or with a session of
    these visitors."""
    identity_states: int
    """States of the identity stages that still name one of them."""
    topics: list[Leftover]
    unknown: int
    """People of whom no topic has a record: long gone, or their ids are written differently."""

    @property
    def is_erased(self) -> bool:
        """Whether all is gone but what waits for retention."""
        return not (self.open_sessions or self.latest_intents or self.user_records or self.identity_states)


async def check_all_by_visitor(settings: Settings, timeout_s: float) -> None:
    """Wait until every click that has arrived is written by visitor: only then an erasure covers it.

    Raises UnwrittenError after the time.
    """
    topic, group = settings.topics.clicks, f"{settings.app.id}-{REPARTITION}"
    if settings.clicks.keyed:
        return
    deadline = time.monotonic() + timeout_s
    arguments = client_arguments(settings.kafka)
    partitions = range((await find_topic(settings.kafka, topic)).partitions)
    async with LogReader(arguments) as reader:
        ends = {number: end for number, (first, end) in (await reader.bounds(topic, partitions)).items()}
    behind = await _unread(settings, group, topic, ends)
    while behind:
        if time.monotonic() > deadline:
            raise UnwrittenError(
                f"{behind:,} clicks of {topic} are not written by visitor yet, which an erasure would miss: "
                "let a worker catch up, or give it more time (--timeout)"
            )
        await asyncio.sleep(_POLL_S)
        behind = await _unread(settings, group, topic, ends)


async def wait_until_erased(settings: Settings, wanted: People, moment: int, timeout_s: float) -> bool:
    """Whether the workers of all partitions have taken the erasures of `moment` in, within the time.

    They answer by a record of each erased key in their partition. Customers' records and states that name an
    erased visitor change without an answer: they are waited for as well, and a newer session may be in them.
    """
    visitors = {person for person in wanted if person[0] == "visitor"}
    users = wanted - visitors
    deadline = time.monotonic() + timeout_s
    answered = [
        await _wait_for_answers(settings, settings.topics.visitors, visitors, moment, deadline),
        await _wait_for_answers(settings, settings.topics.users, users, moment, deadline),
    ]
    if settings.identity.enabled:
        await _wait_for_identity(settings, wanted, deadline)
    return all(answered)


async def _unread(settings: Settings, group: str, topic: str, ends: Mapping[int, int]) -> int:
    """Records before these ends that the group hasn't read."""
    read = (await read_group_offsets(client_arguments(settings.kafka), {group: topic}))[group]
    return sum(max(0, end - read.get(number, 0)) for number, end in ends.items())


async def what_is_left(settings: Settings, wanted: People) -> Left:
    """Raises what `snapshot` raises, and ChangelogError."""
    topics = settings.topics
    by_visitor = dict.fromkeys((topics.clicks, settings.session_source, *settings.outputs))
    reading = [_Reading(name, _named) for name in by_visitor if name != topics.users]
    if settings.identity.enabled:
        reading += [_Reading(topics.links, _named), _Reading(settings.user_changes, _named_in_change)]
        reading += _identity_readings(settings)
    for each in reading:
        await each.read(settings, wanted)
    holding = {each.topic: each.holding for each in reading}
    states = (settings.attribution_changelog, settings.users_changelog)
    visitors = {name for kind, name in wanted if kind == "visitor"}
    return Left(
        open_sessions=await _open_sessions(settings, visitors),
        # A visitor's record may name the customer: it is the visitor's all the same.
        latest_intents=sum(_text(key) in visitors for key, _ in holding[topics.visitors]),
        user_records=len(holding.get(topics.users, ())),
        identity_states=sum(len(holding.get(name, ())) for name in states),
        topics=[*(each.left for each in reading), await _left_in_changelog(settings, visitors)],
        unknown=len(wanted.difference(*(each.seen for each in reading))),
    )


async def visitors_of_users(settings: Settings, users: Iterable[str]) -> list[str]:
    """Visitors whose sessions stand behind the records of these customers, or who are linked to them."""
    wanted, found = set(users), set[str]()
    states: dict[str, bytes] = {}
    async for record in snapshot(settings.kafka, settings.users_changelog):
        key = _text(record.key)
        if user_in(key) in wanted:
            states[key] = record.value or b""
    for state in states.values():
        with contextlib.suppress(ValueError):
            found.add(visitor_in(state))
    written = await read_links(settings, identity_rules(settings), since_ms=0)
    found |= {link.visitor_id for link in written.links if link.in_effect and link.user_id in wanted}
    return sorted(found)


async def _wait_for_answers(
    settings: Settings, topic: str, wanted: Iterable[Person], moment: int, deadline: float
) -> bool:
    """Whether every partition has a record for each of them from `moment` on (ms UTC), in time."""
    names = [name.encode() for _, name in wanted]
    if not names:
        return True
    partitions = (await find_topic(settings.kafka, topic)).partitions
    missing = {(name, number) for name in names for number in range(partitions)}
    while True:
        async for record in snapshot(settings.kafka, topic, moment):
            missing.discard((record.key, record.partition))
        if not missing or time.monotonic() > deadline:
            return not missing
        await asyncio.sleep(_POLL_S)


async def _wait_for_identity(settings: Settings, wanted: People, deadline: float) -> None:
    """Until no record or state of identity names any of them."""
    while True:
        readings = _identity_readings(settings)
        for each in readings:
            await each.read(settings, wanted)
        if not any(each.holding for each in readings) or time.monotonic() > deadline:
            return
        await asyncio.sleep(_POLL_S)


class _Reading:
    """What a topic has of these people."""

    def __init__(
        self, topic: str, named: Callable[[Any], set[Person]], *, forgets_by_time: bool = True
    ) -> None:
        """`named`: whom a record names that is no tombstone."""
        self.topic = topic
        self.left = Leftover(topic)
        self.holding: set[tuple[bytes | None, int]] = set()
        """Key and partition of which the last record names one of them."""
        self.seen: set[Person] = set()
        self._named = named
        self._forgets_by_time = forgets_by_time

    async def read(self, settings: Settings, wanted: People) -> None:
        left, lookup = self.left, SchemaLookup(settings.registry, COMMAND_PATIENCE_S)
        async for found_record in snapshot(settings.kafka, self.topic):
            record = await lookup.own_record(found_record)
            found = set() if record.value is None else self._named(record) & wanted
            place = record.key, record.partition
            if not found:
                self.holding.discard(place)
                continue
            self.holding.add(place)
            self.seen |= found
            left.records += 1
            left.newest = max(left.newest or 0, record.timestamp)
        retention_ms = (await find_topic(settings.kafka, self.topic)).retention_ms
        if left.newest is None or not self._forgets_by_time:
            return
        if retention_ms is not None and retention_ms >= 0:
            left.kept_until = left.newest + retention_ms


def _identity_readings(settings: Settings) -> list[_Reading]:
    """Of the topics where only the last record of a key counts."""
    return [
        _Reading(settings.topics.users, _named_in_record, forgets_by_time=False),
        _Reading(settings.attribution_changelog, _named_in_ties, forgets_by_time=False),
        _Reading(settings.users_changelog, _named_in_sessions, forgets_by_time=False),
    ]


def _named(record: Any) -> set[Person]:
    """In a record that is keyed by visitor."""
    found: set[Person] = {("visitor", name) for name in visitors_of(record.key, record.value)}
    user = user_of(record.value)
    return found if user is None else found | {("user", user)}


def _named_in_record(record: Any) -> set[Person]:
    found: set[Person] = {("user", _text(record.key))}
    with contextlib.suppress(codec.CodecError, KeyError):
        found.add(("visitor", codec.decode(record.value)[1]["visitor_id"]))
    return found


def _named_in_change(record: Any) -> set[Person]:
    found: set[Person] = {("user", _text(record.key))}
    with contextlib.suppress(msgspec.MsgspecError):
        found.add(("visitor", changes.decode(record.value).visitor_id))
    return found


def _named_in_ties(record: Any) -> set[Person]:
    found: set[Person] = {("visitor", _text(record.key))}
    with contextlib.suppress(msgspec.MsgspecError):
        found |= {("user", name) for name in users_in(record.value)}
    return found


def _named_in_sessions(record: Any) -> set[Person]:
    found: set[Person] = {("user", user_in(_text(record.key)))}
    with contextlib.suppress(ValueError):
        found.add(("visitor", visitor_in(record.value)))
    return found


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")


async def _left_in_changelog(settings: Settings, visitors: set[str]) -> Leftover:
    """Old images, which count no more and are trimmed as the sessions beside them close."""
    left = Leftover(settings.changelog)
    async for record in snapshot(settings.kafka, settings.changelog):
        with contextlib.suppress(ChangelogError):
            entry = decode(record.value or b"")
            if isinstance(entry, SessionSnapshots) and any(w.visitor_id in visitors for w in entry.sessions):
                left.records += 1
                left.newest = max(left.newest or 0, record.timestamp)
    return left


async def _open_sessions(settings: Settings, visitors: set[str]) -> int:
    partitions = (await find_topic(settings.kafka, settings.changelog)).partitions
    async with LogReader(client_arguments(settings.kafka)) as reader:
        states = await reader.recover(settings.changelog, range(partitions), lambda: None)
    return sum(window.visitor_id in visitors for state in states.values() for window in state.sessions)
