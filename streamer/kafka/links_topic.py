"""Writes and reads identity links: a record to every partition of their topic, each listed once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from streamer.errors import UsageError
from streamer.identity.links import LinkError, read_link
from streamer.identity.rules import IdentityRules
from streamer.kafka.erase import ErasedUntil, read_erasures
from streamer.kafka.everywhere import write_everywhere
from streamer.kafka.snapshot import snapshot
from streamer.kafka.topics import find_topic
from streamer.line_file import lines_of
from streamer.schemas import codec
from streamer.settings import Settings

LinkRecord = dict[str, Any]
"""The fields of the schema identity_link."""

_EXPECTED = "identity links as JSON lines"


def checked_link(given: Mapping[str, Any], defaults: LinkRecord, rules: IdentityRules) -> LinkRecord:
    """A record of the given fields, and of the defaults for those that aren't given.

    Raises LinkError, which shows no value, if it is no link of this action.
    """
    document = defaults | dict(given)
    try:
        link = read_link(orjson.dumps(document), rules)
    except TypeError:
        raise LinkError("not_utf8", "an id is not UTF-8") from None
    if document["action"] != defaults["action"]:
        command = "add" if link.is_link else "remove"
        raise LinkError(
            "other_action", f"action is {document['action']}: 'streamer link {command}' takes such"
        )
    return {
        "visitor_id": link.visitor_id,
        "user_id": link.user_id,
        "action": document["action"],
        "confidence": link.confidence,
        "source": document["source"],
    }


def listed_links(file: str, defaults: LinkRecord, rules: IdentityRules) -> list[LinkRecord]:
    """Of a file, or of standard input for `-`: a JSON object a line; blank lines are left out.

    Raises UsageError, which names the first line that is no link of the default action.
    """
    links = []
    for number, line in lines_of(Path(file), _EXPECTED):
        try:
            given = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise _bad_line(file, number, "is not JSON") from None
        if not isinstance(given, dict):
            raise _bad_line(file, number, "is no JSON object")
        try:
            links.append(checked_link(given, defaults, rules))
        except LinkError as error:
            raise _bad_line(file, number, str(error)) from None
    if not links:
        raise UsageError(f"{file}: has no link; expected {_EXPECTED}")
    return links


def _bad_line(file: str, number: int, why: str) -> UsageError:
    return UsageError(f"{file}, line {number}: {why}. Nothing was written")


async def write_links(settings: Settings, links: Sequence[LinkRecord]) -> tuple[int, int]:
    """Returns the broker's time of the first and of the last record, ms UTC. Raises as `write_everywhere`."""
    records = [(link["visitor_id"].encode(), codec.encode("identity_link", link)) for link in links]
    return await write_everywhere(settings.kafka, settings.topics.links, records, "links")


@dataclass
class WrittenLink:
    """A link or an unlink as it is in the topic."""

    at: int
    """When it arrived, ms UTC."""
    visitor_id: str
    user_id: str
    action: str
    confidence: float
    source: str | None
    partitions: int
    """How many have a copy. Fewer than there are: the visitors of the others are not linked by it."""
    in_effect: bool = False
    """A link that was neither taken back nor erased since, and is not too old."""


@dataclass
class WrittenLinks:
    links: list[WrittenLink]
    """In order of their arrival."""
    partitions: int
    """Of the topic."""
    unreadable: int
    """Records that are no links, copies included."""


async def read_links(settings: Settings, rules: IdentityRules, since_ms: int) -> WrittenLinks:
    """All that the topic holds. Of links that came before `since_ms` (ms UTC) none is in effect.

    Raises what `snapshot` raises.
    """
    unreadable = 0
    copies: Counter[tuple[int, bytes]] = Counter()
    first: dict[tuple[bytes, int], tuple[int, int, int]] = {}
    found: Counter[tuple[bytes, int]] = Counter()
    async for record in snapshot(settings.kafka, settings.topics.links):
        try:
            read_link(record.value, rules)
        except LinkError:
            unreadable += record.value is not None
            continue
        # Copies of a record are alike, and in the same order in every partition.
        copies[record.partition, record.value] += 1
        which = record.value, copies[record.partition, record.value]
        found[which] += 1
        place = record.partition, record.offset, record.timestamp
        first[which] = min(place, first.get(which, place))
    links = [
        (at, partition, offset, _written(value, at, found[value, nth]))
        for (value, nth), (partition, offset, at) in first.items()
    ]
    links.sort(key=lambda each: each[:3])
    ordered = [link for _, _, _, link in links]
    _find_effect(ordered, await read_erasures(settings), since_ms)
    partitions = (await find_topic(settings.kafka, settings.topics.links)).partitions
    return WrittenLinks(ordered, partitions, unreadable)


def _written(value: bytes, at: int, partitions: int) -> WrittenLink:
    given = orjson.loads(value) if value.lstrip()[:1] == b"{" else codec.decode(value)[1]
    return WrittenLink(
        at,
        given["visitor_id"],
        given["user_id"],
        given["action"],
        given.get("confidence", 1.0),
        given.get("source"),
        partitions,
    )


def _find_effect(links: Iterable[WrittenLink], erased: ErasedUntil, since_ms: int) -> None:
    of_pairs: dict[tuple[str, str], list[WrittenLink]] = {}
    for link in links:
        pair = link.visitor_id, link.user_id
        if link.action == "unlink":
            of_pairs.pop(pair, None)
        else:
            of_pairs.setdefault(pair, []).append(link)
    for (visitor_id, user_id), left in of_pairs.items():
        until = max(erased.visitors.get(visitor_id, -1), erased.users.get(user_id, -1))
        for link in left:
            link.in_effect = link.at > until and link.at >= since_ms
