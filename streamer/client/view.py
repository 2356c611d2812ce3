"""Local views of the visitors and the users topic, kept up to date by threads of their own; look-ups never
leave memory.

A view reads the compacted topic from its beginning, committed records only, without joining a consumer
group: each process has all of them, or those of the partitions that it is given. While brokers can't be
reached it serves what it has, and says how old that is. If it has to begin again, it reads into a new table
that takes the old one's place at the end of the topic: who was erased meanwhile may have left no trace there.
It begins again, too, where partitions were added.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, ClassVar, Generic, Self, TypeVar

import structlog

from streamer.client.table import LatestTable, State, UserState, UserTable, VisitorState, VisitorTable
from streamer.errors import StreamerError, UsageError
from streamer.kafka.following import ASKS_EVERY_S, following_reader, have_been_added
from streamer.kafka.topics import VISITOR_DAYS
from streamer.settings import Settings, load_settings

_POLL_MS = 200
_RETRY_S = 1.0
_EXPIRE_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class ViewError(StreamerError):
    """The view can't be read."""


S = TypeVar("S", bound=State)


class View(Generic[S]):
    """Use it as a context manager: inside, everything that was in the topic is in the view."""

    is_by_murmur2: ClassVar[bool] = False
    """Whether a key's partition follows from it, as Kafka's own partitioner has it."""
    asks_every_s: ClassVar[float] = ASKS_EVERY_S
    """How often brokers are asked how many partitions there are."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        ttl_s: float = VISITOR_DAYS * 86_400,
        on_new_space: Callable[[str], None] = lambda _: None,
        ready_within_s: float = 60.0,
        now: Callable[[], float] = time.time,
        partitions: Collection[int] | None = None,
    ) -> None:
        """`settings`: of brokers and topics; none: as the command line finds them. `ttl_s`: how long after a
        session closed it is returned. `on_new_space` is called, in the view's thread, with every embedding
        space when its first vector comes. `now`: seconds since 1970. `partitions`: whose records are held;
        none: of all."""
        self._settings = settings or load_settings()
        self._topic = self._topic_of(self._settings)
        self._ttl_ms = round(ttl_s * 1000)
        self._on_new_space = on_new_space
        self._reported_spaces: set[str] = set()
        self._table: LatestTable[S] = self._new_table()
        self._ready_within_s = ready_within_s
        self._now = now
        self._share = partitions
        self._counts: dict[str, int] = {}
        """How many partitions the topic has; empty until it is known."""
        self._ready = threading.Event()
        self._stop = threading.Event()
        self._failed: BaseException | None = None
        self._read_at = 0.0
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    def __enter__(self) -> Self:
        """Raises ViewError if the view can't be read to its end in time, BrokerError, TopicError, and
        UsageError for a partition that the topic doesn't have."""
        self.start()
        if not self._ready.wait(self._ready_within_s) and self._failed is None:
            self._stop.set()
            raise ViewError(
                f"topic {self._topic} could not be read to its end within {self._ready_within_s:g} s"
            )
        self._raise_failure()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to read, and don't wait for the end of the topic: `is_ready` says when it is reached."""
        self._thread.start()

    def stop(self) -> None:
        """Returns once the view reads no more."""
        self._stop.set()
        self._thread.join()

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._table)

    def get(self, key: str) -> S | None:
        """The latest of this key; None if unknown, erased, or too long ago. Takes microseconds."""
        return self._table.get(key, int(self._now() * 1000))

    @property
    def spaces(self) -> dict[str, int]:
        """Embedding space -> records that came of it. More than one: the model was changed."""
        return dict(self._table.spaces)

    @property
    def is_ready(self) -> bool:
        """Whether all is in the view that was in the topic at its start. Raises what ended the view."""
        self._raise_failure()
        return self._ready.is_set()

    @property
    def partition_count(self) -> int | None:
        """Of the whole topic; None until it is known."""
        return self._counts.get(self._topic)

    @property
    def age_s(self) -> float:
        """Seconds since brokers last answered for every partition: how old an answer may be. Raises what
        ended the view."""
        self._raise_failure()
        return self._now() - self._read_at

    def _topic_of(self, settings: Settings) -> str:
        raise NotImplementedError

    def _new_table(self) -> LatestTable[S]:
        raise NotImplementedError

    def _tell_once(self, space: str) -> None:
        if space not in self._reported_spaces:
            self._reported_spaces.add(space)
            self._on_new_space(space)

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            asyncio.run(self._follow())
        except BaseException as error:
            self._failed = error
        finally:
            self._ready.set()

    async def _follow(self) -> None:
        from aiokafka.errors import KafkaError

        from streamer.kafka.topics import find_topic

        count = (await find_topic(self._settings.kafka, self._topic)).partitions
        if missing := [number for number in sorted(self._share or ()) if number not in range(count)]:
            raise UsageError(
                f"partitions {missing} of topic {self._topic}: it has those from 0 to {count - 1}"
            )
        self._counts[self._topic] = count
        while not self._stop.is_set():
            try:
                every = range(self._counts[self._topic])
                await self._read(every if self._share is None else sorted(self._share))
            except KafkaError as error:
                log.warning("view_interrupted", topic=self._topic, error=type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _read(self, partitions: Iterable[int]) -> None:
        from aiokafka import TopicPartition

        consumer = following_reader(
            self._settings.kafka, self.asks_every_s, max_partition_fetch_bytes=4 * 1024 * 1024
        )
        try:
            await consumer.start()
            tps = [TopicPartition(self._topic, number) for number in partitions]
            consumer.assign(tps)
            begins = await consumer.beginning_offsets(tps)
            for tp in tps:
                consumer.seek(tp, begins[tp])
            answers = Answers(tps, self._now())
            await self._poll(consumer, await consumer.end_offsets(tps), answers)
        finally:
            await consumer.stop()

    async def _poll(self, consumer: Any, ends: dict[Any, int], answers: Answers) -> None:
        """Returns where partitions were added: all is to be read again, for keys may have moved."""
        from streamer.registry.lookup import SchemaLookup

        count = self._counts[self._topic]
        table, lookup = self._new_table(), SchemaLookup(self._settings.registry)
        # How often is a matter of this loop's clock; what is too old, of the view's, which may stand still.
        clock = asyncio.get_running_loop().time
        expire_at = clock()
        while not self._stop.is_set():
            fetched = await consumer.getmany(timeout_ms=_POLL_MS)
            now_s = self._now()
            read_at = answers.oldest(consumer, now_s)
            for tp, records in fetched.items():
                for record in records:
                    if record.value is not None or self.may_erase(record.key, tp.partition, count):
                        table.apply(record.key, record.value and await lookup.own(record.value))
            if ends:
                ends = {tp: end for tp, end in ends.items() if await consumer.position(tp) < end}
            if not ends:
                self._table, self._read_at = table, read_at
                self._ready.set()
            if clock() >= expire_at:
                expire_at = clock() + _EXPIRE_EVERY_S
                table.expire(int(now_s * 1000))
                if have_been_added(consumer, self._counts):
                    return

    @classmethod
    def may_erase(cls, key: bytes | None, number: int, partitions: int) -> bool:
        """Whether a record without a value in partition `number`, of so many, speaks of its key's records.

        Every partition answers an erasure with one. Where the key says which partition has its records, the
        others must not take away what came after the erasure: partitions are read in any order.
        """
        from streamer.kafka.partitions import by_murmur2

        return not cls.is_by_murmur2 or key is None or by_murmur2(key, partitions) == number


class VisitorView(View[VisitorState]):
    """Each visitor's latest session.

    >>> with VisitorView() as view:  # doctest: +SKIP
    ...     state = view.get("9f3c")
    """

    def _topic_of(self, settings: Settings) -> str:
        return settings.topics.visitors

    def _new_table(self) -> VisitorTable:
        return VisitorTable(self._ttl_ms, self._tell_once)


class UserView(View[UserState]):
    """Each customer's record, with what they showed on all their browsers.

    >>> with UserView() as view:  # doctest: +SKIP
    ...     state = view.get("customer-17")
    """

    is_by_murmur2 = True

    def _topic_of(self, settings: Settings) -> str:
        return settings.topics.users

    def _new_table(self) -> UserTable:
        return UserTable(self._ttl_ms, self._tell_once)


class Answers:
    """When brokers last answered a fetch of each partition: a poll that finds nothing may have met nobody."""

    def __init__(self, tps: Iterable[Any], asked_s: float) -> None:
        """`asked_s`: when brokers were asked where the partitions end."""
        self._seen: dict[Any, tuple[int | None, float]] = dict.fromkeys(tps, (None, asked_s))

    def at(self, tp: Any) -> float:
        """When one was last seen of this partition."""
        return self._seen[tp][1]

    def oldest(self, consumer: Any, now_s: float) -> float:
        """The time before which every partition has been answered, as far as was asked until now."""
        for tp, (stamp, _) in self._seen.items():
            latest = consumer.last_poll_timestamp(tp)
            if latest is not None and latest != stamp:
                self._seen[tp] = latest, now_s
        return min((at for _, at in self._seen.values()), default=now_s)
