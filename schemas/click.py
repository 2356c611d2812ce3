"""What the product keeps of a click and of a session: plain data, shared by streamer and models.

A `Click` here is canonical: validated, scrubbed and cut to size. It holds nothing that depends on a
model bundle, so that bundles can roll while sessions are open.
"""

from __future__ import annotations

from typing import Literal

import msgspec

HEAD_CLICKS = 16
"""How many of a session's first clicks are kept."""
TAIL_CLICKS = 48
"""How many of a session's last clicks are kept."""
KEPT_CLICKS = HEAD_CLICKS + TAIL_CLICKS

CloseReason = Literal["gap", "idle", "max_duration", "max_events", "explicit", "drain", "open"]
"""`open`: it has not closed, this is a provisional record of it."""


class Click(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """One click as a session keeps it. Clicks of a session are ordered by (timestamp, event_id)."""

    timestamp: int
    """Event time in ms UTC, corrected for a wrong device clock."""
    event_id: str
    event_type: str
    page_type: str | None = None
    path: str | None = None
    """URL path to depth 3, lower case, without host, query or trailing slash: `/loans/mortgage/rates`."""
    dwell_ms: int | None = None
    search_query: str | None = None
    """Scrubbed, at most 64 bytes of UTF-8."""
    element: str | None = None
    category: str | None = None
    product_id: str | None = None
    price: float | None = None
    device: str | None = None
    referrer: str | None = None
    """Host of the referring page."""


class Session(msgspec.Struct, frozen=True):
    """A closed session, as the sessionizer emits it and as the models read it; or an open one so far.

    `started_at` and `ended_at` are inclusive event times, `closed_at` is arrival time; all ms UTC.
    """

    session_id: str
    """32 hex digits: 128-bit hash of visitor, start, event_id of the first click, rules version."""
    visitor_id: str
    user_id: str | None
    started_at: int
    ended_at: int
    closed_at: int
    event_count: int
    close_reason: CloseReason
    is_bot: bool
    clicks: list[Click]
    """The first HEAD_CLICKS and last TAIL_CLICKS clicks (all of them up to KEPT_CLICKS), in order."""
    is_final: bool = True
    """False: provisional, as it was at arrival time `closed_at`."""
    revision: int = 0
    supersedes: str | None = None
