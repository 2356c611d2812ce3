"""What a mapping makes of some records, field by field: what came from where, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from streamer.pipeline.decode import ClickDecoder, Rejected
from streamer.pipeline.extras import Extras
from streamer.pipeline.mapping.plan import CompiledMapping
from streamer.pipeline.mapping.spec import FIELDS
from streamer.schemas.extras import PAGE_TITLE

COSTS = {
    "visitor_id": "no click at all: every record is a dead letter",
    "timestamp": "no click at all: every record is a dead letter",
    "event_type": "no click at all: every record is a dead letter",
    "event_id": "a click that is sent twice counts twice",
    "sent_at": "a wrong clock of a device isn't corrected, unless the vendor has done so",
    "page_url": "the path of the page, which tells the most of an intent",
    "page_type": "the kind of page, where addresses don't tell it",
    "page_title": "nothing, unless clicks.keep has it",
    "search_query": "what visitors searched for",
    "element": "which button or link was used",
    "referrer": "where visitors came from",
    "dwell_ms": "how long pages were read: the time until the next click stands in for it",
    "product_id": "which product was looked at",
    "category": "the category of pages and products",
    "price": "the price that was shown",
    "device": "the kind of device",
    "user_agent": "crawlers are taken for people, unless the vendor flags them",
    "user_id": "sessions aren't tied to customers by login",
    "consent": "nobody is left out: consent has to be settled before clicks come here",
    "bot": "crawlers are known by their user agent alone",
}
"""What sessions and intents lose where a field is never found."""
_NO_COST_OF_DWELL = "nothing, for records that are no clicks tell it"
_COST_OF_EXTRA = "what clicks.keep asks for"


class FieldReport(NamedTuple):
    """A field over all clicks."""

    field: str
    found: int
    """In so many clicks."""
    sources: dict[str, int]
    """Path or constant -> in how many clicks it gave the value."""
    example: Any
    """As the click has it, before it is scrubbed."""
    costs: str | None
    """What it costs that it is never found."""


class CheckReport(NamedTuple):
    """Where all records ended."""

    mapping: str
    records: int
    clicks: int
    filtered: int
    tell_dwell: int
    """Of the filtered records those that tell how long a page was read."""
    refused: dict[str, int]
    """Reason, as the dead letter would have it -> how many."""
    fields: list[FieldReport]


def check(mapping: CompiledMapping, records: Iterable[bytes], keep: Collection[str] = ()) -> CheckReport:
    """Reads the records as a worker would that has `keep` as `clicks.keep`, and the mapping for it."""
    extras = Extras(tuple(keep)) if keep else None
    decoder = ClickDecoder(read=mapping.read, extras=extras)
    ends: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    named = ("event_type", *FIELDS, *(name for name in sorted(keep) if name != PAGE_TITLE))
    sources: dict[str, Counter[str]] = {name: Counter() for name in named}
    examples: dict[str, Any] = {}
    for record in records:
        ends["records"] += 1
        try:
            arrived = decoder.decode(record, None, "check")
        except Rejected as rejected:
            refused[rejected.reason] += 1
            continue
        if arrived is None or not arrived.is_click:
            ends["filtered"] += 1
            ends["tell_dwell"] += arrived is not None
            continue
        ends["clicks"] += 1
        mapped = [traced for traced in mapping.trace(record) or () if traced.source is not None]
        for traced in mapped:
            sources[traced.field][str(traced.source)] += 1
            examples.setdefault(traced.field, traced.result)
        kept = arrived.click.extras or {}
        for name in kept.keys() - {traced.field for traced in mapped}:
            sources[name]["page_url"] += 1
            examples.setdefault(name, kept[name])
    costs = dict(COSTS)
    if ends["tell_dwell"]:
        costs["dwell_ms"] = _NO_COST_OF_DWELL
    fields = [
        FieldReport(
            name,
            found.total(),
            dict(found.most_common()),
            examples.get(name),
            None if found else costs.get(name, _COST_OF_EXTRA),
        )
        for name, found in sources.items()
    ]
    return CheckReport(
        mapping.name,
        ends["records"],
        ends["clicks"],
        ends["filtered"],
        ends["tell_dwell"],
        dict(refused.most_common()),
        fields,
    )
