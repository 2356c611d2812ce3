"""Which fields of a click and of a session the models read.

Every site fills some of these: a bank has paths and queries, a hotel search only elements and products.
A field that a site lacks is id 0 everywhere and adds nothing.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from streamer.schemas.click import Session

LEARNT_FIELDS: Final = (
    "page_type",
    "path_1",
    "path_2",
    "path_3",
    "event_type",
    "element",
    "category",
    "product_id",
)
"""Fields of a click whose vocabulary is learnt."""
EVENT_FIELDS: Final = (*LEARNT_FIELDS, "dwell", "gap")
DWELL, GAP = EVENT_FIELDS.index("dwell"), EVENT_FIELDS.index("gap")
SESSION_FIELDS: Final = ("device", "referrer", "hour")
HOUR_IDS = 25
"""0 missing, 1..24 the hour of `started_at` in UTC."""

ClickValues = tuple[str | None, str | None, str, str | None, str | None, str | None]
"""What a token depends on besides time and query: all that `values_of` takes from a click."""
values_of: Final = attrgetter("page_type", "path", "event_type", "element", "category", "product_id")


def path_prefixes(path: str | None) -> tuple[str | None, str | None, str | None]:
    """`"/loans/mortgage"` gives `("/loans", "/loans/mortgage", None)`; the root is `"/"`."""
    if not path:
        return None, None, None
    parts = [part for part in path.split("/") if part]
    if not parts:
        return "/", None, None
    first = f"/{parts[0]}"
    second = f"{first}/{parts[1]}" if len(parts) > 1 else None
    third = f"{second}/{parts[2]}" if len(parts) > 2 else None
    return first, second, third


def learnt_values(values: ClickValues) -> tuple[str | None, ...]:
    """The values of LEARNT_FIELDS, in that order."""
    page_type, path, event_type, element, category, product_id = values
    return (page_type, *path_prefixes(path), event_type, element, category, product_id)


def device_and_referrer(session: Session) -> tuple[str | None, str | None]:
    """The first device and the first referrer that any click names."""
    device = referrer = None
    for click in session.clicks:
        device = device or click.device
        referrer = referrer or click.referrer
        if device and referrer:
            break
    return device, referrer


def hour_id(started_at_ms: int) -> int:
    return 1 + started_at_ms // 3_600_000 % 24
