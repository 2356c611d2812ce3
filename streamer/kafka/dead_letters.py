"""Dead letters: read, filtered, and put back on the clicks topic.

What was replayed is noted in the dead letter topic itself, by receipts: records of the stage `replayed` whose
value lists offsets of their partition, written in one transaction with the clicks. A replay that is cut off
thus replays nothing twice, and one that runs beside another is fenced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from streamer.errors import StreamerError, UsageError
from streamer.kafka.client import client_arguments, running
from streamer.kafka.erase import ErasedUntil
from streamer.kafka.permissions import refusal
from streamer.kafka.snapshot import snapshot, user_of, visitors_of
from streamer.kafka.topics import find_topic
from streamer.pipeline.dead_letters import (
    ARRIVAL_HEADER,
    EXCEPTION_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    REASON_HEADER,
    REPLAYED_FROM_HEADER,
    REPLAYED_HEADER,
    STAGE_HEADER,
    TOPIC_HEADER,
    TRUNCATED_HEADER,
    Header,
    original_headers,
)
from streamer.settings import Settings

RECEIPT_STAGE = "replayed"
_PER_TRANSACTION = 500
_REQUEST_BYTES = 32 * 1024 * 1024


class ReplayError(StreamerError):
    """Dead letters could not be put back."""


@dataclass
class DeadLetter:
    """One record of the dead letter topic. `source` is the place of the click: topic, partition, offset."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[Header]
    stage: str
    reason: str
    source: tuple[str, int, int] | None
    attempts: int
    """How often its bytes had been replayed before they came here again."""
    replayed: bool = False
    """Whether it was put back on the clicks topic since."""

    @property
    def place(self) -> str:
        return f"{self.partition}/{self.offset}"


@dataclass(frozen=True)
class Filter:
    """Which dead letters; empty parts let all pass. Times in ms UTC, half-open; a reason may end with `*`."""

    stage: str | None = None
    reason: str | None = None
    start: int | None = None
    end: int | None = None
    places: frozenset[str] = frozenset()

    def __call__(self, letter: DeadLetter) -> bool:
        return (
            self.stage in (None, letter.stage)
            and (self.reason is None or _fits(self.reason, letter.reason))
            and (self.start is None or letter.timestamp >= self.start)
            and (self.end is None or letter.timestamp < self.end)
            and (not self.places or letter.place in self.places)
        )


def _fits(wanted: str, reason: str) -> bool:
    return reason.startswith(wanted[:-1]) if wanted.endswith("*") else reason == wanted


async def read_dead_letters(settings: Settings, wanted: Callable[[DeadLetter], bool]) -> list[DeadLetter]:
    """Those that are wanted, oldest first. Raises `BrokerError`, `TopicError`, NotPermittedError."""
    found: list[DeadLetter] = []
    receipts: set[tuple[int, int]] = set()
    async for record in snapshot(settings.kafka, settings.topics.dlq):
        letter = as_dead_letter(record)
        if letter.stage == RECEIPT_STAGE:
            receipts.update((record.partition, offset) for offset in _receipt(record.value))
        elif wanted(letter):
            found.append(letter)
    for letter in found:
        letter.replayed = (letter.partition, letter.offset) in receipts
    return sorted(found, key=lambda letter: (letter.timestamp, letter.partition, letter.offset))


def as_dead_letter(record: Any) -> DeadLetter:
    """Of any record, also of one that somebody else put into the topic."""
    headers = {name: value for name, value in record.headers if value is not None}
    return DeadLetter(
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=record.key,
        value=record.value,
        headers=list(record.headers),
        stage=headers.get(STAGE_HEADER, b"").decode(errors="replace") or "unknown",
        reason=headers.get(REASON_HEADER, b"").decode(errors="replace"),
        source=_source(headers),
        attempts=_number(headers.get(REPLAYED_HEADER)) or 0,
    )


def _source(headers: dict[str, bytes]) -> tuple[str, int, int] | None:
    partition, offset = _number(headers.get(PARTITION_HEADER)), _number(headers.get(OFFSET_HEADER))
    if EXCEPTION_HEADER not in headers or partition is None or offset is None:
        return None
    return headers.get(TOPIC_HEADER, b"").decode(errors="replace"), partition, offset


def _number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.isdigit() and len(text) < 19 else None


def _receipt(value: bytes | None) -> list[int]:
    try:
        return msgspec.json.decode(value or b"", type=list[int])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []


def _erased_since(letter: DeadLetter, erased: ErasedUntil) -> str | None:
    visitors, user = visitors_of(letter.key, letter.value), user_of(letter.value)
    if any(erased.visitors.get(visitor, -1) >= letter.timestamp for visitor in visitors):
        return "visitor"
    if user is not None and erased.users.get(user, -1) >= letter.timestamp:
        return "customer"
    return None


def why_not(
    letter: DeadLetter, settings: Settings, partitions: int, again: bool, erased: ErasedUntil
) -> str | None:
    """Why a dead letter can't or should not be replayed; None if it may be.

    A replayed click arrives anew, and would come back after an erasure.
    """
    if whose := _erased_since(letter, erased):
        return f"its {whose} was erased since"
    if letter.stage == "score":
        return "a session, no click: its clicks are in the clicks topic, 'streamer replay' makes it anew"
    if letter.key is None and letter.value is None:
        return "it holds nothing, neither key nor value"
    if TRUNCATED_HEADER in dict(letter.headers):
        return "it was too large to be kept whole"
    strange = _why_strange(letter.source, settings, partitions)
    if strange:
        return strange
    if not again and letter.replayed:
        return "it was replayed before: --again"
    if not again and letter.attempts:
        return "it is what became of a replay: --again"
    return None


def _why_strange(source: tuple[str, int, int] | None, settings: Settings, partitions: int) -> str | None:
    """Why a dead letter with this source has no place among the clicks; None if it has."""
    if source is None:
        return "its headers do not say where it came from"
    topic, partition, _ = source
    clicks = {settings.topics.clicks, settings.session_source}
    if topic not in clicks:
        return f"it came from another topic than {' and '.join(sorted(clicks))}"
    if topic == settings.topics.clicks and partition >= partitions:
        return f"its partition is not one of the {partitions} of {topic}"
    return None


async def replay(
    settings: Settings, choose: Callable[[], Any], on_progress: Callable[[int], None] = lambda _: None
) -> int:
    """Put the letters that `choose` gives back on the clicks topic, each in the partition that it came from,
    or, where it came from the topic by visitor, in that of its key.

    `choose` is awaited after any other replay was fenced off, so that none is chosen by both. Returns how
    many. Raises `ReplayError`, NotPermittedError.
    """
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    producer = AIOKafkaProducer(
        **client_arguments(settings.kafka),
        transactional_id=f"{settings.app.id}-dlq-replay",
        max_request_size=_REQUEST_BYTES,
    )
    done = 0
    try:
        async with running(producer):
            async with producer.transaction():  # only now the client asks for what fences others
                pass
            letters: Sequence[DeadLetter] = await choose()
            for start in range(0, len(letters), _PER_TRANSACTION):
                portion = letters[start : start + _PER_TRANSACTION]
                async with producer.transaction():
                    await _put_back(producer, settings, portion)
                done += len(portion)
                on_progress(done)
    except KafkaError as error:
        raise refusal(error, f"write to {settings.topics.clicks} and {settings.topics.dlq}") or ReplayError(
            f"{done} dead letters are replayed, then the cluster refused ({type(error).__name__}): "
            "the same command goes on from there"
        ) from None
    return done


async def _put_back(producer: Any, settings: Settings, letters: Iterable[DeadLetter]) -> None:
    receipts: dict[int, list[int]] = {}
    for letter in letters:
        assert letter.source is not None
        await producer.send(
            settings.topics.clicks,
            letter.value,
            key=letter.key,
            partition=letter.source[1] if letter.source[0] == settings.topics.clicks else None,
            headers=replay_headers(letter),
        )
        receipts.setdefault(letter.partition, []).append(letter.offset)
    for partition, offsets in receipts.items():
        value = msgspec.json.encode(offsets)
        headers = [(STAGE_HEADER, RECEIPT_STAGE.encode()), (REASON_HEADER, b"dlq replay")]
        await producer.send(settings.topics.dlq, value, partition=partition, headers=headers)


def replay_headers(letter: DeadLetter) -> list[Header]:
    """The record's own headers, its first arrival, how often it was tried, and which dead letter it is."""
    own = original_headers(letter.headers)
    if ARRIVAL_HEADER not in dict(own):  # put aside by an older worker, which did so soon after it arrived
        own.append((ARRIVAL_HEADER, str(letter.timestamp).encode()))
    return [
        *own,
        (REPLAYED_HEADER, str(letter.attempts + 1).encode()),
        (REPLAYED_FROM_HEADER, letter.place.encode()),
    ]


def parse_places(texts: Iterable[str]) -> frozenset[str]:
    """`PARTITION/OFFSET` as `ls` shows them. Raises UsageError."""
    for text in texts:
        partition, slash, offset = text.partition("/")
        if not (slash and partition.isdecimal() and offset.isdecimal()):
            raise UsageError(f"{text!r}: expected PARTITION/OFFSET, as 'streamer dlq ls' shows it")
    return frozenset(texts)


async def clicks_partitions(settings: Settings) -> int:
    """How many partitions the clicks topic has."""
    return (await find_topic(settings.kafka, settings.topics.clicks)).partitions
