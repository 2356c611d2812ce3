"""Scored sessions of a replay, kept until all partitions are done: customers' records are made of them.

A partition's sessions are in files, in its order; each file is written whole. The messages of all bundles
stand beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from streamer.output_file import output_file
from streamer.replay.journal import DurableOutput
from streamer.replay.scoring import ScoredSession
from streamer.replay.sinks import SEGMENT_SESSIONS, SessionSink
from streamer.replay.users import IdentityEvent


class _Spooled(msgspec.Struct, array_like=True):
    closed_at: int
    messages: list[bytes | None]
    """VisitorIntent by bundle; None where it could not score the session."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Spooled]).decode


class SpoolingSink:
    """Keeps what another sink is given, too."""

    def __init__(
        self, sink: SessionSink, folder: Path, sealed: Mapping[int, DurableOutput], mark: str = ""
    ) -> None:
        """`sealed` and `mark`: as `RowsSink` has them."""
        self._sink = sink
        self._folder = folder
        self._mark = mark
        self._files = {number: list(each.spooled) for number, each in sealed.items()}
        self._waiting: dict[int, list[_Spooled]] = {number: [] for number in sealed}

    async def write(self, number: int, scored: Sequence[ScoredSession]) -> None:
        await self._sink.write(number, scored)
        waiting = self._waiting[number]
        for each in scored:
            messages = [None if output is None else output.records.visitor for output in each.outputs]
            waiting.append(_Spooled(each.session.closed_at, messages))
        if len(waiting) >= SEGMENT_SESSIONS:
            self._write_file(number)

    async def seal(self, number: int) -> DurableOutput:
        self._write_file(number)
        output = await self._sink.seal(number)
        return msgspec.structs.replace(output, spooled=tuple(self._files[number]))

    async def close(self) -> None:
        await self._sink.close()

    def _write_file(self, number: int) -> None:
        waiting = self._waiting[number]
        if waiting:
            name = f"partition-{number}-{self._mark}{len(self._files[number])}.sessions"
            with output_file(self._folder / name) as file:
                file.write(_encode(waiting))
            self._files[number].append(name)
            waiting.clear()


def spooled_sessions(folder: Path, number: int, names: Iterable[str], bundle: int) -> Iterator[IdentityEvent]:
    """Sessions of a partition that this bundle has scored, a file at a time."""
    for name in names:
        for each in _decode((folder / name).read_bytes()):
            message = each.messages[bundle]
            if message is not None:
                yield IdentityEvent(each.closed_at, number, message)
