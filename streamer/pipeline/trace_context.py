"""Trace contexts of clicks: the W3C `traceparent` of a record's headers, kept with its click.

A context is kept as an extra of the click, so that it is in the state and goes where the click goes: when
sessions merge, when a worker takes over, when a visitor is erased. Only contexts of traces that are recorded
are kept, for of others nothing could be looked up.
Source: Trace Context, W3C Recommendation of 23 November 2021, section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from streamer.pipeline.dead_letters import Header
from streamer.schemas.click import Click
from streamer.schemas.extras import MOST_EXTRAS

TRACEPARENT = "traceparent"
"""The header, and the extra, which `clicks.keep` can't name."""

# A library's parser makes objects that are of no use here, and takes ten times as long.
_FORMAT = re.compile(rb"([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 0x01


class TraceContexts:
    """Reads the headers of clicks. `on_malformed` is called for each `traceparent` that is none."""

    def __init__(self, on_malformed: Callable[[], None]) -> None:
        self._on_malformed = on_malformed

    def of(self, headers: Sequence[Header]) -> str | None:
        """The context to keep, as `traceparent` of version 00; None: there is none, or it isn't recorded."""
        value = dict(headers).get(TRACEPARENT)
        if value is None:
            return None
        found = _FORMAT.fullmatch(value)
        if found is None:
            self._on_malformed()
            return None
        version, trace_id, span_id, flags, more = found.groups()
        is_version_0_with_more = version == b"00" and more is not None
        if version == b"ff" or is_version_0_with_more or not (trace_id.strip(b"0") and span_id.strip(b"0")):
            self._on_malformed()
            return None
        return f"00-{trace_id.decode()}-{span_id.decode()}-01" if int(flags, 16) & _SAMPLED else None


def with_context(extras: Mapping[str, str] | None, context: str) -> dict[str, str]:
    """A click's extras and its context; without it where there is no room."""
    kept = dict(extras or {})
    if len(kept) < MOST_EXTRAS:
        kept[TRACEPARENT] = context
    return kept


def taken_from(clicks: Iterable[Click]) -> list[str]:
    """The contexts of the clicks, each once, in order; the clicks are as if they had come without."""
    found: dict[str, None] = {}
    for click in clicks:
        if click.extras and (context := click.extras.pop(TRACEPARENT, None)) is not None:
            found[context] = None
    return list(found)
