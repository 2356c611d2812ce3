"""A file as the source of a replay, or cut into sessions: JSON lines (plain or packed) or parquet,
clicks or a dumped log.

- A line or row with `arrival` and `value` is a record of a dumped log: `partition`, `offset`, `arrival` (ms
  UTC), `key`, and `value` as text, or `value_base64` where it is no text. It is replayed as the topic is.
- Any other line or row is a click. Then the file is one partition, arrival is the running maximum of event
  time, and idleness closes nothing. `sent_at` can't correct a clock without an arrival, so it is ignored.
- Offsets of a dump must rise within a partition; those of clicks are their places, from 0.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import accumulate, chain, count, islice, repeat
from pathlib import Path
from typing import NamedTuple

import msgspec
import orjson

from streamer.core.rules import SessionRules
from streamer.errors import UsageError
from streamer.pipeline.counters import ClickCounters, total_of
from streamer.pipeline.decode import Arrived, Rejected
from streamer.pipeline.partition import Decode
from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup
from streamer.replay.partition_replay import PartitionReplay
from streamer.replay.plan import PartitionPlan, ReplayConfig
from streamer.replay.sources import LogRecord, Portion
from streamer.schemas.click import Session
from streamer.settings import ClickSettings, RegistrySettings
from streamer.sources import click_decoder, whole_value
from streamer.sources.files import records_of

PORTION = 1000
NO_REGISTRY = RegistrySettings()


class _Dumped(msgspec.Struct):
    """A record of a dumped log."""

    partition: int
    offset: int
    arrival: int
    key: str | None = None
    value: str | None = None
    value_base64: str | None = None
    headers: dict[str, str] = {}


_read_dumped = msgspec.json.Decoder(_Dumped).decode


class FileSessions(NamedTuple):
    """The sessions of a file, in order of closing, partition by partition; where every click ended."""

    sessions: list[Session]
    counters: ClickCounters


def sessions_of_file(path: Path, rules: SessionRules, clicks: ClickSettings | None = None) -> FileSessions:
    """What a replay of the whole file yields. Raises UsageError if it can't be read to its end."""
    whole = WholeFile((path,), rules, clicks)
    sessions: dict[int, list[Session]] = {number: [] for number in whole.partitions}
    for number, session in whole.sessions():
        sessions[number].append(session)
    return FileSessions(list(chain.from_iterable(sessions.values())), whole.counters)


class WholeFile:
    """A replay of a whole file, or of several as if they were one, that holds open sessions only."""

    def __init__(
        self, paths: Sequence[Path], rules: SessionRules, clicks: ClickSettings | None = None
    ) -> None:
        """At least one path. Raises UsageError if it can't be read to its end."""
        self._source = FileSource(paths[0], clicks or ClickSettings(), following=paths[1:])
        config = ReplayConfig("file", rules, idle_closing=self._source.is_dump)
        self.partitions = {
            plan.number: PartitionReplay(config, plan, self._source.decode, whole=self._source.whole)
            for plan in self._source.partitions()
        }

    def sessions(self) -> Iterator[tuple[int, Session]]:
        """(partition, session), as they close. Once. Raises UsageError."""
        positions = {number: replay.position for number, replay in self.partitions.items()}
        for portion in self._source.read(positions):
            replay = self.partitions[portion.number]
            for session in replay.process(portion.records):
                yield portion.number, session
            if portion.is_last:
                for session in replay.drain():
                    yield portion.number, session

    def require_a_click(self) -> None:
        """After all sessions. Raises UsageError if there were records and none was a click."""
        counters = self.counters
        if counters.received and counters.dead_lettered == counters.received:
            raise UsageError(self._source.why_refused(counters.received))

    @property
    def counters(self) -> ClickCounters:
        """Where every click so far has ended."""
        return total_of(replay.counters for replay in self.partitions.values())


class FileSource:
    """Reads the file anew for each pass; holds one portion at a time."""

    def __init__(
        self,
        path: Path,
        clicks: ClickSettings,
        registry: RegistrySettings = NO_REGISTRY,
        following: Sequence[Path] = (),
    ) -> None:
        """`following`: files that go on where the one before ends."""
        self.path = path
        self._paths = (path, *following)
        self._source = clicks.source
        self.is_dump = self._is_dump()
        self.lookup = SchemaLookup(registry if self.is_dump else NO_REGISTRY, COMMAND_PATIENCE_S)
        self.whole = whole_value(clicks, self.lookup.registered)
        self._decode = click_decoder(clicks, None if self.is_dump else "json", self.lookup.registered).decode
        self.decode: Decode = self._decode if self.is_dump else self._known
        self._clicks: dict[bytes | None, Arrived | None] = {}
        """By line of the last portion: looking at event times has made them, and they are asked for next."""

    def partitions(self) -> list[PartitionPlan]:
        """One per partition, by a first pass over the file. Raises UsageError."""
        if not self.is_dump:
            return [PartitionPlan(0, 0, sum(1 for _ in self._values()))]
        first: dict[int, LogRecord] = {}
        last: dict[int, int] = {}
        for number, record in self._dumped():
            first.setdefault(number, record)
            if record.offset <= last.get(number, -1):
                raise UsageError(
                    f"{self.path}: offset {record.offset} of partition {number} follows {last[number]}; "
                    "expected offsets that rise within a partition"
                )
            last[number] = record.offset
        return [
            PartitionPlan(n, r.offset, last[n] + 1, None if r.offset == 0 else r.timestamp)
            for n, r in sorted(first.items())
        ]

    async def portions(self, positions: dict[int, int]) -> AsyncGenerator[Portion]:
        for portion in self.read(positions):
            yield portion

    def read(self, positions: dict[int, int]) -> Iterator[Portion]:
        """The portions of these partitions from the given offsets on."""
        if not self.is_dump:
            for records in self._by_event_time(positions[0]):
                yield Portion(0, records)
            yield Portion(0, (), is_last=True)
            return
        waiting: dict[int, list[LogRecord]] = {number: [] for number in positions}
        for number, record in self._dumped():
            if number in waiting and record.offset >= positions[number]:
                waiting[number].append(record)
                if len(waiting[number]) >= PORTION:
                    yield Portion(number, waiting[number])
                    waiting[number] = []
        for number, records in waiting.items():
            if records:
                yield Portion(number, records)
            yield Portion(number, (), is_last=True)

    def why_refused(self, records: int) -> str:
        """Where none of the records is a click: why the first isn't."""
        values = (each.value for _, each in self._dumped()) if self.is_dump else self._values()
        reason = "unknown"
        try:
            self._decode(next(iter(values)), None, "")
        except Rejected as error:
            reason = str(error)
        return (
            f"{self.path}: none of its {records:,} records is a click. The first isn't for this reason:"
            f" {reason}; expected clicks of the format that clicks.source or --source names, {self._source}"
        )

    def _by_event_time(self, position: int) -> Iterator[list[LogRecord]]:
        values = islice(self._values(), position, None)
        latest = 0  # where a replay is resumed its own clock is ahead, and never goes back
        while lines := list(islice(values, PORTION)):
            clicks = self._decoded(lines)
            # What is no click moves no clock.
            times = [each.click.timestamp if each and each.is_click else 0 for each in clicks]
            arrivals = list(accumulate(times, max, initial=latest))[1:]
            latest = arrivals[-1]
            self._clicks = dict(zip(lines, clicks, strict=True))
            yield list(map(LogRecord, count(position), arrivals, repeat(None), lines))
            position += len(lines)

    def _decoded(self, lines: list[bytes]) -> list[Arrived | None]:
        """The clicks of lines; None for what is no click."""
        clicks: list[Arrived | None] = []
        for line in lines:
            try:
                clicks.append(self._decode(line, None, ""))
            except Rejected:
                clicks.append(None)
        return clicks

    def _known(self, value: bytes | None, arrival: int, fallback_id: str) -> Arrived | None:  # noqa: ARG002
        known = self._clicks.get(value)
        return self._decode(value, None, fallback_id) if known is None or fallback_id else known

    def _dumped(self) -> Iterator[tuple[int, LogRecord]]:
        for place, line in enumerate(self._values(), start=1):
            try:
                found = _read_dumped(line)
                value = found.value.encode() if found.value is not None else None
                if found.value_base64 is not None:
                    value = base64.b64decode(found.value_base64, validate=True)
            except (msgspec.DecodeError, ValueError):
                raise UsageError(
                    f"{self.path}: record {place} is no record of a dumped log; expected partition, offset, "
                    "arrival, key and value in each"
                ) from None
            key = found.key.encode() if found.key is not None else None
            headers = [(name, text.encode()) for name, text in found.headers.items()]
            yield found.partition, LogRecord(found.offset, found.arrival, key, value, headers)

    def _is_dump(self) -> bool:
        for value in self._values():
            try:
                fields = orjson.loads(value)
            except orjson.JSONDecodeError:
                return False
            return (
                isinstance(fields, dict)
                and "arrival" in fields
                and bool(fields.keys() & {"value", "value_base64"})
            )
        return False

    def _values(self) -> Iterator[bytes]:
        """Each line that isn't blank, or each row as JSON."""
        return chain.from_iterable(records_of(path, self._source) for path in self._paths)
