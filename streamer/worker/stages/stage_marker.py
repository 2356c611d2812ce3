"""The marker in each partition of a stage's changelog: how far the state goes, and what it was made with."""

from __future__ import annotations

from typing import Any

import msgspec
from aiokafka.structs import TopicPartition

from streamer.worker.refused import RefusedError

STATE_VERSION = 1
MARKER_KEY = b""
"""No visitor and no user has an empty id."""


class StageMarker(msgspec.Struct, array_like=True):
    """Everything before the positions is in the state."""

    state_version: int
    epoch: int
    """Number of take-overs of the shard."""
    partitions: int
    """Of the source; with another number, keys would live elsewhere."""
    positions: dict[str, int]
    """Next offset to read, by topic."""
    progress: msgspec.Raw
    topic_ids: dict[str, str] = {}
    """Of the topics with positions; none in states from before they were noted."""


encode = msgspec.msgpack.Encoder().encode
decode_marker = msgspec.msgpack.Decoder(StageMarker).decode


def read_marker(changelog: str, number: int, value: bytes | None) -> StageMarker | None:
    """The marker of a partition, if it has one. Raises RefusedError."""
    if value is None:
        return None
    try:
        marker = decode_marker(value)
    except msgspec.MsgspecError:
        raise unreadable_state(changelog, number, "its marker is damaged") from None
    if marker.state_version != STATE_VERSION:
        version = marker.state_version
        raise unreadable_state(
            changelog, number, f"its state version is {version}, this worker reads {STATE_VERSION}"
        )
    return marker


def newest_marker(tp: TopicPartition, records: list[Any]) -> StageMarker | None:
    """The last of these records of a changelog that is a marker. Raises RefusedError."""
    values = (record.value for record in reversed(records) if record.key == MARKER_KEY)
    return read_marker(tp.topic, tp.partition, next(values, None))


def unreadable_state(changelog: str, number: int, why: str) -> RefusedError:
    """The refusal of a stage's changelog."""
    return RefusedError(f"can't restore the state in {changelog} partition {number}: {why}")
