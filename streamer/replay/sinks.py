"""Where a replay puts its sessions: row files, a topic, standard output, or nowhere.

A sink may be killed at any moment. What `seal` returned counts; what was written after it comes again, and
ends up there once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import orjson

from schemas import codec
from streamer.replay.journal import Sealed
from streamer.replay.scoring import Bench, ScoredSession

if TYPE_CHECKING:
    import pyarrow

TOPIC = "topic:"
STDOUT = "-"
SEGMENT_SESSIONS = 8192
"""Sessions that are in memory before they are written as a row file."""


class Sink(Protocol):
    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:
        """Take sessions of a partition, in its order."""

    async def seal(self, number: int) -> Sealed:
        """Make durable what was written of a partition; returns all of it that is."""

    async def close(self) -> None: ...


class NoSink:
    """For who only wants to know the digests."""

    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:
        pass

    async def seal(self, number: int) -> Sealed:  # noqa: ARG002
        return Sealed()

    async def close(self) -> None:
        pass


class StdoutSink(NoSink):
    """A JSON object a line: the fields of embedding and intents, as on the visitors topic."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._stream = stream or sys.stdout.buffer

    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:  # noqa: ARG002
        for each in scored:
            for result in each.results:
                if result is not None:
                    record = codec.decode(result.records.visitor)[1]
                    self._stream.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        self._stream.flush()


class RowsSink:
    """Row files in a folder, to be joined when everything is done."""

    def __init__(self, folder: Path, bench: Bench, sealed: Mapping[int, Sealed], mark: str = "") -> None:
        """`sealed`: by partition, what counts already. `mark`: goes into the names of files, so that nobody
        else can have written them."""
        self._folder = folder
        self._bench = bench
        self._mark = mark
        self._files = {number: list(each.files) for number, each in sealed.items()}
        self._waiting: dict[int, list[pyarrow.Table]] = {number: [] for number in sealed}

    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:
        from streamer.replay.rows import table_of

        waiting = self._waiting[number]
        waiting.append(table_of(scored, self._bench.bundles, self._bench.rules_version))
        if sum(table.num_rows for table in waiting) >= SEGMENT_SESSIONS:
            self._write_file(number)

    async def seal(self, number: int) -> Sealed:
        self._write_file(number)
        return Sealed(files=tuple(self._files[number]))

    async def close(self) -> None:
        pass

    def _write_file(self, number: int) -> None:
        import pyarrow as pa

        from streamer.replay.rows import write_rows

        waiting = self._waiting[number]
        if waiting:
            name = f"lane-{number}-{self._mark}{len(self._files[number])}.parquet"
            write_rows(self._folder / name, pa.concat_tables(waiting))
            self._files[number].append(name)
            waiting.clear()


def out_topic(out: str | None) -> str | None:
    """The NAME of `topic:NAME`; None for anything else."""
    return out.removeprefix(TOPIC) if out and out.startswith(TOPIC) else None


def out_file(out: str | None) -> Path | None:
    """The file, if the output is one."""
    return Path(out) if out and out != STDOUT and not out.startswith(TOPIC) else None


Messages = list[tuple[bytes, bytes]]


def messages_of(each: ScoredSession) -> Messages:
    """(key, value) of an embedding and an intent by bundle, in the wire format of the live topics."""
    return [
        (result.records.key, value)
        for result in each.results
        if result is not None
        for value in (result.records.embedding, result.records.intent)
    ]


def settings_topics(topics: Any) -> list[str]:
    """Every topic that a live worker reads or writes."""
    return [topics.clicks, topics.intents, topics.embeddings, topics.visitors, topics.late, topics.dlq]
