"""Reads the topics that the page shows. Where brokers are away it goes on trying, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from streamer.client.table import record_of
from streamer.client.view import Answers
from streamer.errors import StreamerError
from streamer.kafka.acls import acls_of
from streamer.kafka.client import running
from streamer.kafka.dead_letters import RECEIPT_STAGE, as_dead_letter
from streamer.kafka.following import ASKS_EVERY_S, following_reader, have_been_added, read_on
from streamer.kafka.partitions import by_murmur2
from streamer.kafka.permissions import check_permissions
from streamer.kafka.start import Start
from streamer.kafka.topics import find_topic
from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup
from streamer.settings import Settings
from streamer.ui.health import Health, read_health
from streamer.ui.projection import Projection
from streamer.ui.state import PageState
from streamer.worker.changelog import ChangelogError

_POLL_MS = 200
_AT_ONCE = 500
"""Records between two moments at which the page may be drawn."""
_RETRY_S = 2.0
_AWAY_S = 8.0
"""Brokers that have answered nothing for so long are away."""
_HEALTH_EVERY_S = 3.0


class Connection(NamedTuple):
    """How it stands with the brokers."""

    state: Literal["starting", "reading", "live", "away", "refused"]
    """`reading`: what was there before the page was opened; `refused`: they answer, but with an error."""
    detail: str = ""


STARTING = Connection("starting")


@dataclass
class Feed:
    """Keeps `state` and `health` up to date."""

    settings: Settings
    state: PageState
    start: Start
    now: Callable[[], float]
    """Seconds since 1970."""
    projection: Projection | None = None
    """None: there is no map."""
    connection: Connection = STARTING
    health: Health | None = None
    """None: not known yet, or brokers are away."""
    asks_every_s: float = ASKS_EVERY_S
    """How often brokers are asked how many partitions there are."""

    def __post_init__(self) -> None:
        topics = self.settings.topics
        self._readers: Mapping[str, Callable[[Any], None]] = {
            topics.intents: self._intent,
            topics.visitors: self._visitor,
            topics.late: lambda _: self.state.late_click(),
            topics.dlq: self._dead_letter,
            **({topics.users: self._user} if self.settings.identity.enabled else {}),
        }
        self._lookup = SchemaLookup(self.settings.registry, COMMAND_PATIENCE_S)
        self._positions: dict[TopicPartition, int] = {}
        """Where to read next; empty before the first time."""
        self._partitions: dict[str, int] = {}

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._read()
            except KafkaError as error:
                self.connection = Connection("away", type(error).__name__)
            except StreamerError as error:
                self.connection = Connection("refused", str(error))
            await asyncio.sleep(_RETRY_S)

    async def follow_health(self) -> None:
        """Until cancelled."""
        while True:
            try:
                self.health = await read_health(self.settings)
            except (KafkaError, ChangelogError, StreamerError):
                self.health = None
            await asyncio.sleep(_HEALTH_EVERY_S)

    async def _read(self) -> None:
        kafka = self.settings.kafka
        await check_permissions(kafka, acls_of("viewer", self.settings))
        self._partitions = {topic: (await find_topic(kafka, topic)).partitions for topic in self._readers}
        async with running(following_reader(kafka, self.asks_every_s)) as consumer:
            await read_on(consumer, self._partitions, self._positions, self.start)
            tps = list(consumer.assignment())
            await self._poll(consumer, await consumer.end_offsets(tps), Answers(tps, self.now()))

    async def _poll(self, consumer: Any, ends: dict[TopicPartition, int], answers: Answers) -> None:
        """Returns where partitions were added."""
        self.connection = Connection("reading")
        while not have_been_added(consumer, self._partitions):
            fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
            now_s = self.now()
            for tp, records in fetched.items():
                for record in records:
                    await self._take(record)
                    self._positions[tp] = record.offset + 1
            ends = {tp: end for tp, end in ends.items() if await consumer.position(tp) < end}
            silent_s = now_s - answers.oldest(consumer, now_s)
            if silent_s > _AWAY_S:
                self.connection = Connection("away", f"no answer for {silent_s:.0f} s")
            else:
                self.connection = Connection("reading" if ends else "live")
            await asyncio.sleep(0)

    async def _take(self, record: Any) -> None:
        try:
            self._readers[record.topic](await self._lookup.own_record(record))
        except ValueError:  # not of its schema, or a key that is no UTF-8
            self.state.unreadable_record()

    def _intent(self, record: Any) -> None:
        if record.value is None:
            return
        intent = record_of("session_intent", record.value)
        self.state.session(intent, record.partition, record.timestamp)

    def _visitor(self, record: Any) -> None:
        if record.value is None:
            self.state.erased_visitor(record.key.decode())
        elif self.projection is not None:
            visitor = record_of("visitor_intent", record.value)
            if visitor["embedding_space"] == self.projection.embedding_space:
                self.state.place(visitor["session_id"], self.projection.place(visitor["embedding"]))

    def _user(self, record: Any) -> None:
        if record.value is not None:
            user = record_of("user_intent", record.value)
            self.state.customer(user["user_id"], user, record.timestamp)
        # Every partition answers an erasure: another's may be read after the customer has logged in again.
        elif by_murmur2(record.key, self._partitions[record.topic]) == record.partition:
            self.state.customer(record.key.decode(), None, record.timestamp)

    def _dead_letter(self, record: Any) -> None:
        letter = as_dead_letter(record)
        if letter.stage != RECEIPT_STAGE:
            self.state.dead_letter(letter.reason)
