"""Writes erasures, of visitors and of customers, to every partition of their topic; reads who was erased."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from streamer.errors import UsageError
from streamer.kafka.everywhere import write_everywhere
from streamer.kafka.snapshot import snapshot
from streamer.line_file import lines_of
from streamer.pipeline.erasures import erased_by
from streamer.pipeline.scrub import without_invisible
from streamer.schemas import codec
from streamer.schemas.click import MAX_ID_BYTES
from streamer.settings import Settings

_OF_USER = b"\0"
"""How the key of a customer's erasure begins, so that compaction takes it for no visitor's."""


def checked_ids(ids: Iterable[str], what: str) -> list[str]:
    """Each once, in order. Raises UsageError for one that no click can have; `what` it is: "visitor"."""
    unique = list(dict.fromkeys(ids))
    for number, each in enumerate(unique, start=1):
        try:
            size = len(each.encode())
        except UnicodeEncodeError:
            raise UsageError(f"{what} {number} is not UTF-8, as every id is") from None
        if not 0 < size <= MAX_ID_BYTES:
            raise UsageError(f"{what} {number} has {size} bytes, expected 1 to {MAX_ID_BYTES}")
    return unique


def listed_ids(file: str, field: str) -> list[str]:
    """Of a file, or of standard input for `-`: one id a line; blank lines are left out.

    `field`: "visitor_id" or "user_id".
    Raises UsageError for a list that names others than it seems to: a character that nobody sees makes
    another id, which would be erased in place of the one that was meant.
    """
    ids = []
    for number, line in lines_of(Path(file), f"one {field} a line"):
        try:
            each = line.rstrip(b"\r\n").decode()
        except UnicodeDecodeError:
            raise UsageError(f"{file}, line {number}: is not UTF-8, expected one {field}") from None
        if each != without_invisible(each).strip() or not each.isprintable():
            option = "--visitor" if field == "visitor_id" else "--user"
            raise UsageError(
                f"{file}, line {number}: has invisible characters, or spaces at its ends; expected one "
                f"{field} ({option} takes any). Nobody was erased"
            )
        ids.append(each)
    return ids


async def erase(
    settings: Settings, visitors: Sequence[str] = (), users: Sequence[str] = (), *, requested_at: int
) -> tuple[int, int]:
    """Returns the broker's time of the first and of the last record, ms UTC: what arrived up to these goes.

    `requested_at`: ms UTC, for people. Raises as `write_everywhere`.
    """
    named = [
        *((visitor.encode(), {"visitor_id": visitor}) for visitor in visitors),
        *((_OF_USER + user.encode(), {"visitor_id": "", "user_id": user}) for user in users),
    ]
    records = [(key, codec.encode("erasure", {**whom, "requested_at": requested_at})) for key, whom in named]
    return await write_everywhere(settings.kafka, settings.topics.erasures, records, "erasures")


class ErasedUntil(NamedTuple):
    """Whom erasures name, each with the latest moment, ms UTC, inclusive."""

    visitors: dict[str, int]
    users: dict[str, int]


async def read_erasures(settings: Settings) -> ErasedUntil:
    """All that the topic holds. Raises what `snapshot` raises."""
    found = ErasedUntil({}, {})
    async for record in snapshot(settings.kafka, settings.topics.erasures):
        erased = erased_by(record.value)
        if erased is None:
            continue
        of_kind, name = (
            (found.visitors, erased.visitor_id) if erased.user_id is None else (found.users, erased.user_id)
        )
        if name is not None:
            of_kind[name] = max(record.timestamp, of_kind.get(name, 0))
    return found
