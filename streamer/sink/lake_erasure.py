"""Which rows of a lake an erasure takes away. Pure.

- A tombstone takes the rows of its key that its partition has before it.
- A visitor's takes customers' records too that mention one of their sessions, or their browser, and what the
  customer had before those: a profile may be made of sessions that it doesn't name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from streamer.sink.lake_files import KEYS
from streamer.sink.lake_manifest import Erasure

_PLACE = ("topic_partition", "topic_offset", "recorded_at")
_OF_SESSIONS = [*_PLACE, "visitor_id", "session_id"]
COLUMNS = {"sessions": _OF_SESSIONS, "users": [*_OF_SESSIONS, "user_id", "history"]}
"""By table: those that erasures go by."""
Tables = Mapping[str, tuple[str, pa.Table]]
"""By path of a file: sessions or users, and its COLUMNS."""
Masks = dict[str, pa.Array]
"""By path, which rows go; files without any are left out."""


def erased_rows(tables: Tables, erasures: Sequence[Erasure]) -> tuple[Masks, list[Erasure]]:
    """What goes; and the erasures, with the sessions that a visitor had."""
    by_key: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, erasure in enumerate(erasures):
        by_key[erasure.table, erasure.key].append(number)
    rows: dict[str, set[int]] = defaultdict(set)
    sessions = [set(erasure.sessions) for erasure in erasures]
    for path, row, number in _own_rows(tables, erasures, by_key):
        rows[path].add(row)
        if erasures[number].table == "sessions":
            sessions[number].add(tables[path][1]["session_id"][row].as_py())
    known = [
        Erasure(each.table, each.key, each.partition, each.offset, each.recorded_at, tuple(sorted(found)))
        for each, found in zip(erasures, sessions, strict=True)
    ]
    for path, row in _mentions(tables, [each for each in known if each.table == "sessions"]):
        rows[path].add(row)
    masks = {
        path: pa.array([row in found for row in range(tables[path][1].num_rows)])
        for path, found in rows.items()
    }
    return masks, known


def _own_rows(
    tables: Tables, erasures: Sequence[Erasure], by_key: Mapping[tuple[str, str], Sequence[int]]
) -> Iterator[tuple[str, int, int]]:
    """(path, row, number of the erasure)"""
    for path, (name, table) in tables.items():
        wanted = pa.array([key for of_table, key in by_key if of_table == name], pa.string())
        found = pc.is_in(table[KEYS[name]], wanted)
        for row in _true(found):
            place = tuple(table[name][row].as_py() for name in _PLACE)
            for number in by_key[name, table[KEYS[name]][row].as_py()]:
                if erasures[number].takes(*place):
                    yield path, row, number


def _mentions(tables: Tables, erasures: Sequence[Erasure]) -> Iterator[tuple[str, int]]:
    """Customers' rows up to the last one of each that mentions a visitor who was erased after it."""
    erased_at = {each.key: each.recorded_at for each in sorted(erasures, key=lambda each: each.recorded_at)}
    visitors = pa.array(list(erased_at), pa.string())
    sessions = pa.array([session for each in erasures for session in each.sessions], pa.string())
    last: dict[str, int] = {}
    users = {path: table for path, (name, table) in tables.items() if name == "users"}
    for table in users.values():
        history = table["history"].combine_chunks()
        past = pc.is_in(pc.struct_field(history.flatten(), "session_id"), sessions)
        by_history = pc.unique(history.value_parent_indices().filter(past)).to_pylist()
        now = pc.or_(pc.is_in(table["visitor_id"], visitors), pc.is_in(table["session_id"], sessions))
        for row in {*by_history, *_true(now)}:
            visitor, at = table["visitor_id"][row].as_py(), table["recorded_at"][row].as_py()
            if row in by_history or at <= erased_at.get(visitor, at):
                user = table["user_id"][row].as_py()
                last[user] = max(at, last.get(user, at))
    if not last:
        return
    for path, table in users.items():
        for row in _true(pc.is_in(table["user_id"], pa.array(list(last), pa.string()))):
            if table["recorded_at"][row].as_py() <= last[table["user_id"][row].as_py()]:
                yield path, row


def _true(mask: pa.ChunkedArray) -> Iterable[int]:
    rows: list[int] = pc.indices_nonzero(mask).to_pylist()
    return rows
