"""What attributes sessions to customers beside the clicks: identity links and erasures, each at its moment.

Of a topic each partition has its own copy of every record, which counts for the sessions of that partition. A
file's links count in every partition: JSON lines with the fields of an IdentityLink, plus `timestamp`, the
moment in ms UTC at which the link was known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from streamer.errors import UsageError
from streamer.identity.links import Link, LinkError, read_link
from streamer.identity.rules import IdentityRules
from streamer.line_file import lines_of
from streamer.pipeline.erasures import erased_by
from streamer.replay.topic_source import records_of
from streamer.replay.users import IdentityEvent, in_order
from streamer.settings import Settings


class _Timed(msgspec.Struct):
    timestamp: int


_timed = msgspec.json.Decoder(_Timed).decode


def ties_of_file(path: Path, rules: IdentityRules, partitions: Iterable[int]) -> list[IdentityEvent]:
    """Links in order of time. Raises UsageError that names the line, and no value."""
    found: list[tuple[int, Link]] = []
    for line, raw in lines_of(path, "identity links as JSON lines"):
        try:
            found.append((_timed(raw).timestamp, read_link(raw, rules)))
        except LinkError as error:
            raise UsageError(f"{path}, line {line}: no identity link: {error}") from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise UsageError(f"{path}, line {line}: expected timestamp, in ms UTC, as a number") from None
    found.sort(key=lambda each: each[0])
    numbers = sorted(partitions)
    return [IdentityEvent(at, number, link) for at, link in found for number in numbers]


async def ties_of_topics(
    settings: Settings, rules: IdentityRules, ends: Mapping[str, Mapping[int, int]]
) -> list[IdentityEvent]:
    """Links and erasures before these offsets, by topic and partition, in order of time. What the worker
    takes for a dead letter is passed over. Raises TopicSourceError."""
    found: dict[tuple[str, int], list[IdentityEvent]] = {}
    for topic, of_partitions in ends.items():
        async for record in records_of(settings, topic, of_partitions):
            what = _link(record.value, rules) if topic == settings.topics.links else erased_by(record.value)
            if what is not None:
                event = IdentityEvent(record.timestamp, record.partition, what)
                found.setdefault((topic, record.partition), []).append(event)
    return list(in_order(*found.values()))


def _link(value: bytes | None, rules: IdentityRules) -> Link | None:
    try:
        return read_link(value, rules)
    except LinkError:
        return None
