"""A file of clicks -> closed sessions, by the very core that the worker runs.

A file has no arrival times: it is one partition whose arrival is the running maximum of event time, and
silence closes nothing. `sent_at` can't correct a clock without an arrival, so it is left aside.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import orjson

from schemas.click import Session
from streamer.accounts import Accounts
from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome, Sessionizer
from streamer.decode import Arrived, ClickDecoder, Rejected
from streamer.errors import UsageError

_GZIP_MAGIC = b"\x1f\x8b"
_ALL_AT_ONCE = 1 << 30


def sessions_of_file(path: Path, rules: SessionRules, accounts: Accounts) -> list[Session]:
    """Sessions in order of closing; where every click ended is counted in `accounts`.

    Lines are JSON objects; the file may be gzipped. Raises UsageError if it can't be read.
    """
    sessionizer = Sessionizer(rules, idle_closing=False)
    decoder = ClickDecoder("json")
    closed: list[Session] = []
    for number, line in enumerate(_lines(path)):
        accounts.received += 1
        arrived = _decoded(decoder, line, number, accounts)
        if arrived is None:
            continue
        sessionizer.arrive(max(sessionizer.clock.now, arrived.click.timestamp))
        merged = sessionizer.merged_duplicates
        outcome = sessionizer.add(arrived.visitor_id, arrived.click, number, arrived.user_id, arrived.crawler)
        accounts.duplicates += sessionizer.merged_duplicates - merged
        _count(accounts, outcome)
        if sessionizer.has_due:
            closed += sessionizer.close_due(_ALL_AT_ONCE)
    closed += sessionizer.drain()
    accounts.sessions += len(closed)
    accounts.closed += sum(session.event_count for session in closed)
    return closed


def _decoded(decoder: ClickDecoder, line: bytes, number: int, accounts: Accounts) -> Arrived | None:
    try:
        arrived = decoder.decode(_without_sent_at(line), 0, f"line-{number + 1}")
    except Rejected:
        accounts.dead_lettered += 1
        return None
    accounts.filtered += arrived is None
    return arrived


def _without_sent_at(line: bytes) -> bytes:
    if b'"sent_at"' not in line:
        return line
    try:
        click = orjson.loads(line)
    except orjson.JSONDecodeError:
        return line
    if isinstance(click, dict):
        click.pop("sent_at", None)
    return orjson.dumps(click)


def _count(accounts: Accounts, outcome: Outcome) -> None:
    if outcome is Outcome.DUPLICATE:
        accounts.duplicates += 1
    elif outcome is Outcome.LATE:
        accounts.late += 1
    elif outcome is not Outcome.JOINED:
        accounts.dead_lettered += 1


def _lines(path: Path) -> Iterator[bytes]:
    """Lines that aren't blank, without their ends."""
    try:
        with path.open("rb") as raw, _unpacked(raw) as stream:
            for line in stream:
                if stripped := line.strip():
                    yield stripped
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged gzip file"
        raise UsageError(f"{path}: cannot be read ({reason}); expected clicks as JSON lines") from None


def _unpacked(raw: IO[bytes]) -> IO[bytes]:
    packed = raw.read(2) == _GZIP_MAGIC
    raw.seek(0)
    return cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if packed else raw
