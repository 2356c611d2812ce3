"""The end of a replay: the records of customers, made of the sessions of all partitions and of their ties."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import orjson

from streamer.replay.engine import PartitionResult, ReplayTask
from streamer.replay.options import STDOUT, ReplayOptions
from streamer.replay.session_spool import spooled_sessions
from streamer.replay.users import IdentityEvent, UserReplay, UserRow, document_of, in_order

_Write = Callable[[Iterable[UserRow], str], None]


class UserTotals(msgspec.Struct, frozen=True):
    """What the records of customers came to that one bundle's sessions give."""

    users: int
    """Who have a record in the end."""
    changes: int
    """Rows: each is another record, or none any more."""
    digest: str
    """Of the latest records, over Avro bodies; 32 hex digits."""
    sessions: dict[str, int]
    """By what became of them; together they are all."""

    def as_dict(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self)


def write_users(
    task: ReplayTask,
    results: Mapping[int, PartitionResult],
    ties: Sequence[IdentityEvent],
    folder: Path | None,
    beside: Path | None = None,
) -> list[UserTotals]:
    """Write the records of customers to where the output is; returns totals by bundle, none if there are to
    be no such records.

    `ties`: links and erasures, in order. `folder`: where partitions have left their sessions. `beside`: where
    a file is until it is whole.
    """
    plan = task.plan
    if not plan.identity or folder is None:
        return []
    totals = []
    numbers = [partition.number for partition in plan.partitions]
    within = [tie for tie in ties if plan.to_ms is None or tie.at < plan.to_ms]
    with _sink(task.options, beside) as write:
        for place, model_version in enumerate(task.scorers.model_versions):
            sessions = [spooled_sessions(folder, n, results[n].output.spooled, place) for n in numbers]
            replay = UserReplay(task.identity_rules, max(numbers, default=0) + 1)
            write(replay.rows(in_order(within, *sessions)), model_version)
            digest, counts = replay.digest, msgspec.structs.asdict(replay.counts)
            totals.append(UserTotals(digest.count, replay.changes, digest.hexdigest(), counts))
    return totals


@contextmanager
def _sink(options: ReplayOptions, beside: Path | None) -> Iterator[_Write]:
    if options.users_file is not None:
        from streamer.replay.user_rows import user_rows_file

        with user_rows_file(options.users_file, beside) as write:
            yield write
    else:
        yield _print if options.out == STDOUT else _only_count


def _print(rows: Iterable[UserRow], model_version: str) -> None:
    """A JSON object a line, told from a session's by `as_of`."""
    for row in rows:
        sys.stdout.buffer.write(
            orjson.dumps(document_of(row, model_version), option=orjson.OPT_APPEND_NEWLINE)
        )
    sys.stdout.buffer.flush()


def _only_count(rows: Iterable[UserRow], model_version: str) -> None:  # noqa: ARG001
    for _ in rows:
        pass
