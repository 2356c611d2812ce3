"""Rows that a lake has to have come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.partitioner import murmur2

from streamer.schemas import codec
from streamer.settings import Settings
from tests.worker.live import committed

Row = dict[str, Any]


def expected(settings: Settings) -> dict[str, list[Row]]:
    """Rows that the topics come to, read one record after the other."""
    topics, partitions = settings.topics, settings.topics.partitions
    sessions, tombstones = _read(committed(settings, topics.visitors).records, "visitor_id", partitions)
    gone = [row for row in sessions if _is_erased(row, "visitor_id", tombstones)]
    erased_at = {key: max(at for _, _, at in those) for key, those in tombstones.items()}
    users, own = _read(committed(settings, topics.users).records, "user_id", partitions)
    lost = {row["session_id"] for row in gone}
    last: dict[str, int] = {}
    for row in users:
        past = {each["session_id"] for each in row["history"]} | {row["session_id"]}
        if past & lost or row["recorded_at"] <= erased_at.get(row["visitor_id"], -1):
            last[row["user_id"]] = max(row["recorded_at"], last.get(row["user_id"], 0))
    return {
        "sessions": [row for row in sessions if row not in gone],
        "users": [
            row
            for row in users
            if not _is_erased(row, "user_id", own) and row["recorded_at"] > last.get(row["user_id"], -1)
        ],
    }


def _read(
    records: Iterable[Any], key: str, partitions: int
) -> tuple[list[Row], dict[str, list[tuple[int, int, int]]]]:
    rows: list[Row] = []
    tombstones: dict[str, list[tuple[int, int, int]]] = {}
    for record in records:
        if record.value is None:
            home = (murmur2(record.key) & 0x7FFFFFFF) % partitions
            if key == "visitor_id" or record.partition == home:
                place = record.partition, record.offset, record.timestamp
                tombstones.setdefault(record.key.decode(), []).append(place)
            continue
        try:
            decoded = codec.decode(record.value)[1]
        except codec.CodecError:
            continue
        place = {
            "recorded_at": record.timestamp,
            "topic_partition": record.partition,
            "topic_offset": record.offset,
        }
        rows.append({**place, **decoded})
    return sorted(rows, key=lambda row: (row["topic_partition"], row["topic_offset"])), tombstones


def _is_erased(row: Row, key: str, tombstones: Mapping[str, list[tuple[int, int, int]]]) -> bool:
    return any(
        partition == row["topic_partition"] and row["topic_offset"] < offset
        for partition, offset, _ in tombstones.get(row[key], ())
    )
