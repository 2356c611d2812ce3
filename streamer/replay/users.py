"""Customers' records over time: sessions, links and erasures in order, through the identity stages. Pure.

A partition's sessions meet the links and erasures of that partition, as live. Each event gives a row for
every customer whose record is another after it. So the last rows are what live has published in the end, and
a join by customer and time sees what was known then.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from streamer.core.digest import MultisetDigest, record_hash
from streamer.identity.attribution import AttributionStage, SessionCounts
from streamer.identity.links import Link
from streamer.identity.packed import SessionMessage
from streamer.identity.rules import IdentityRules
from streamer.identity.users import UserStage
from streamer.kafka.partitions import by_murmur2
from streamer.pipeline.erasures import Erased
from streamer.schemas import codec


class IdentityEvent(NamedTuple):
    """Something of one partition: its copy of an erasure or of a link, or the VisitorIntent message of one of
    its final sessions."""

    at: int
    """Arrival, or `closed_at` of the session; ms UTC."""
    number: int
    """Partition."""
    what: Erased | Link | bytes


class UserRow(NamedTuple):
    """A user's record from `as_of` on, ms UTC."""

    as_of: int
    user_id: str
    message: bytes | None
    """UserIntent; None: nothing is left of them."""


def document_of(row: UserRow, model_version: str) -> dict[str, Any]:
    """The row as its fields by name; without a record, only whose it is and which bundle's."""
    if row.message is None:
        return {"as_of": row.as_of, "user_id": row.user_id, "model_version": model_version}
    return {"as_of": row.as_of, **codec.decode(row.message)[1]}


def in_order(*streams: Iterable[IdentityEvent]) -> Iterator[IdentityEvent]:
    """One stream of several, each in order of time; at the same moment erasures come first, sessions last."""
    return heapq.merge(*streams, key=lambda event: (event.at, _RANKS[type(event.what)], event.number))


_RANKS = {Erased: 0, Link: 1, bytes: 2}


class UserReplay:
    """Both identity stages of every partition, in one process."""

    def __init__(self, rules: IdentityRules, partitions: int) -> None:
        self._attribution = [AttributionStage(rules) for _ in range(partitions)]
        self._users = [UserStage(rules) for _ in range(partitions)]
        self._homes: dict[str, int] = {}
        """Visitor -> the partition that they were first seen in: where topics have grown, ties move along."""
        self._latest: dict[str, bytes] = {}
        """User -> hash of their record."""
        self.changes = 0
        """Rows so far."""

    @property
    def counts(self) -> SessionCounts:
        """The final sessions so far, by what became of them."""
        return SessionCounts(
            **{
                name: sum(getattr(stage.progress.counts, name) for stage in self._attribution)
                for name in SessionCounts.__struct_fields__
            }
        )

    @property
    def digest(self) -> MultisetDigest:
        """Of the latest record of each user who has one: over Avro bodies."""
        digest = MultisetDigest()
        for hashed in self._latest.values():
            digest.add_hash(hashed)
        return digest

    def rows(self, events: Iterable[IdentityEvent]) -> Iterator[UserRow]:
        """What changes, event by event. Raises codec.CodecError if a session's message isn't one."""
        for event in map(self._at_home, events):
            self._take_in(event)
            for user_id, message in self._published(event.number):
                hashed = None if message is None else record_hash(codec.body(message))
                if hashed == self._latest.get(user_id):
                    continue
                if hashed is None:
                    del self._latest[user_id]
                else:
                    self._latest[user_id] = hashed
                self.changes += 1
                yield UserRow(event.at, user_id, message)

    def _at_home(self, event: IdentityEvent) -> IdentityEvent:
        if not isinstance(event.what, bytes):
            return event
        visitor_id = SessionMessage(event.what).visitor_id
        return event._replace(number=self._homes.setdefault(visitor_id, event.number))

    def _take_in(self, event: IdentityEvent) -> None:
        at, number, what = event
        attribution, users = self._attribution[number], self._users[number]
        if isinstance(what, Link):
            attribution.link(what, at)
        elif isinstance(what, bytes):
            attribution.links_read_until(at)
            attribution.session(what)
        elif what.user_id is not None:
            attribution.erase_user(what.user_id, at)
            users.erase_user(what.user_id, at)
        elif what.visitor_id is not None:
            attribution.erase_visitor(what.visitor_id, at)
            users.erase_visitor(what.visitor_id, at)

    def _published(self, number: int) -> Iterator[tuple[str, bytes | None]]:
        """Records of users that the last event, one of this partition, has changed."""
        changed = {number}
        for user_id, change in self._attribution[number].take().changes:
            of_user = by_murmur2(user_id.encode(), len(self._users))
            self._users[of_user].apply(user_id, change)
            changed.add(of_user)
        for of_user in sorted(changed):
            yield from self._users[of_user].take().records
