"""Sessions of a replay's file as a training run takes them: all of them, or whole visitors up to a number.

Training holds its sessions in memory; a file may have years of them. So where it has too many, visitors are
chosen by a hash: always the same ones, all sessions of each, and no more of the file in memory than a group
of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from schemas.click import Session
from streamer.errors import UsageError
from streamer.replay.rows import ROW_GROUP, opened, sessions_of_rows

MOST_SESSIONS = 200_000
"""Some 3 kB each in memory."""
_SHARES = 10_000


def training_sessions(path: Path, most: int = MOST_SESSIONS) -> Iterator[Session]:
    """Sessions of people, at most about `most`. Raises UsageError if the file isn't one of a replay."""
    shares = _shares_below(_counts(path), most)
    for session in sessions_of_rows(path):
        if not session.is_bot and _share_of(session.visitor_id) < shares:
            yield session


def _counts(path: Path) -> list[int]:
    """Sessions of people by share of visitors: a first pass over three columns."""
    names = ["visitor_id", "is_bot", "model_version"]
    counts = [0] * _SHARES
    with opened(path) as file:
        missing = set(names) - set(file.schema_arrow.names)
        if missing:
            raise UsageError(f"{path}: no column {min(missing)}; expected what `streamer replay` writes")
        first: str | None = None
        for batch in file.iter_batches(ROW_GROUP, columns=names):
            for row in batch.to_pylist():
                first = first or row["model_version"]
                if row["model_version"] == first and not row["is_bot"]:
                    counts[_share_of(row["visitor_id"])] += 1
    return counts


def _shares_below(counts: list[int], most: int) -> int:
    """How many shares, from the first on, have at most `most` sessions together."""
    total = 0
    for share, count in enumerate(counts):
        total += count
        if total > most:
            return share
    return _SHARES


def _share_of(visitor_id: str) -> int:
    digest = hashlib.blake2b(visitor_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"sample")
    return int.from_bytes(digest.digest(), "big") % _SHARES
