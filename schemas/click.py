"""What the product keeps of a click and of a session: plain data, shared by streamer and models.

A `Click` here is canonical: validated, scrubbed and cut to size. It holds nothing that depends on a
model bundle, so that bundles can roll while sessions are open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from typing import Any, Literal

HEAD_CLICKS = 16
"""How many of a session's first clicks are kept."""
TAIL_CLICKS = 48
"""How many of a session's last clicks are kept."""
KEPT_CLICKS = HEAD_CLICKS + TAIL_CLICKS
MAX_ID_BYTES = 256
"""visitor_id, event_id, user_id, in UTF-8: longer ones are refused, for cutting would make two ids one.
Vendors' ids have 16 to 128 bytes; an id is copied into keys, state and outputs."""

CloseReason = Literal["gap", "idle", "max_duration", "max_events", "explicit", "user_change", "drain", "open"]
"""`open`: it has not closed, this is a provisional record of it."""


@dataclass
class Click:
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
    extras: dict[str, str] | None = None
    """What `clicks.keep` asks for, by the names of `schemas.extras`, in their order; None: nothing of it."""


@dataclass
class Session:
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

    def row(self) -> tuple[str | int | None, ...]:
        """The values of ROW_FIELDS."""
        return (
            self.session_id,
            self.visitor_id,
            self.user_id,
            self.started_at,
            self.ended_at,
            self.closed_at,
            self.event_count,
            self.close_reason,
            self.is_bot,
            self.is_final,
            self.revision,
            self.supersedes,
        )


ROW_FIELDS = tuple(field.name for field in fields(Session) if field.name != "clicks")
"""Names of a session's fields without its clicks, in order."""


def to_document(session: Session) -> dict[str, Any]:
    """Its fields by name, as JSON takes them; each click is an array of its fields in order, extras only if
    it has any."""
    document = {field.name: getattr(session, field.name) for field in fields(Session)}
    clicks = [astuple(click) for click in session.clicks]
    return document | {"clicks": [click if click[-1] else click[:-1] for click in clicks]}


def from_document(document: Mapping[str, Any]) -> Session:
    """The session that `to_document` was given. Raises KeyError or TypeError for another document."""
    clicks = [Click(*click) for click in document["clicks"]]
    return Session(**{**document, "clicks": clicks})
