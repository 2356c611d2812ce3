"""Rows of three public clickstreams with a real outcome: of each visitor the beginning of one session.

- shop1999: will somebody pay who hasn't within the first six events?
- pisa_cc: will somebody solve the task? The first eight of more actions are seen.
- eshop2008: will somebody look at an article on sale who hasn't yet? Sessions are cut at a fixed random
  place.

Hand-made features are what such a beginning shows beside its n-grams: times, prices, places on the page.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamer.models.evaluation.real.clickstreams import Event, click_of, read, session_of
from streamer.models.evaluation.real.eshop2008 import cut_of
from streamer.models.evaluation.real.few_labels import FIVE_FOLDS, TEST, Part, RealTask
from streamer.models.evaluation.real.shop1999 import FIRST, MIN_COUNT, PAID
from streamer.models.extra_fields import PRICE, FieldSpec
from streamer.models.fused.encodings import Columns
from streamer.schemas.click import Click, Session

_ACTIONS = 8
"""Of pisa_cc."""
_SALE = "sale"
_HOUR_MS = 3_600_000
_SHOWN = ("colour_code", "model_photography", "site_page")
"""What eshop2008 says of an article besides its price."""
_FIELDS_OF_ESHOP2008 = (
    FieldSpec.of(PRICE, {"kind": "number"}),
    *(FieldSpec.of(f"properties.{name}", {"kind": "categorical", "hashed": 32}) for name in _SHOWN),
)


def shop1999_payment(folder: Path) -> RealTask:
    by_visitor = _by_visitor(folder, "shop1999")
    rows = [
        clicks
        for clicks in by_visitor.values()
        if len(clicks) >= FIRST and not any(click.page_type == PAID for _, click in clicks[:FIRST])
    ]
    beginnings = _sessions(clicks[:FIRST] for clicks in rows)
    hours = [session.started_at % (24 * _HOUR_MS) / _HOUR_MS for session in beginnings]
    return RealTask(
        name="shop1999",
        beginnings=beginnings,
        by_hand=beginnings,
        columns={**_gaps(beginnings), "hour": hours},
        labels=np.array([any(click.page_type == PAID for _, click in clicks) for clicks in rows], np.int64),
        whole=_sessions(by_visitor.values()),
    )


def pisa_cc_solved(folder: Path) -> RealTask:
    by_visitor = _by_visitor(folder, "pisa_cc")
    solved = {row["visitor_id"]: row["solved"] for row in read(folder, "pisa_cc.labels")}
    rows = {visitor: clicks for visitor, clicks in by_visitor.items() if len(clicks) > _ACTIONS}
    beginnings = _sessions(clicks[:_ACTIONS] for clicks in rows.values())
    resets = [float(sum(c.element == "reset" for c in session.clicks)) for session in beginnings]
    return RealTask(
        name="pisa_cc",
        beginnings=beginnings,
        by_hand=beginnings,
        columns={**_gaps(beginnings), "resets": resets},
        labels=np.array([solved[visitor] for visitor in rows], np.int64),
        whole=_sessions(by_visitor.values()),
    )


def eshop2008_sale(folder: Path) -> RealTask:
    return _sale("eshop2008", *_eshop2008(folder, _all_fields))


def eshop2008_sale_by_fields(folder: Path) -> RealTask:
    """The same rows; their clicks have fields of their own for what the shop says of an article."""
    return _sale("eshop2008_fields", *_eshop2008(folder, _own_fields))


def _sale(
    name: str, by_visitor: Mapping[str, Sequence[tuple[Event, Click]]], context: Mapping[str, Event]
) -> RealTask:
    rows = []
    for visitor, clicks in by_visitor.items():
        if len(clicks) > 1:
            cut = cut_of(visitor, clicks)
            if not _looks_at_sale(clicks[:cut]):
                rows.append((clicks, cut))
    beginnings = _sessions(clicks[:cut] for clicks, cut in rows)
    return RealTask(
        name=name,
        beginnings=beginnings,
        by_hand=[_by_product(session) for session in beginnings],
        columns=_shopping([[event for event, _ in clicks[:cut]] for clicks, cut in rows], context),
        labels=np.array(
            [any(c.category == _SALE for _, c in clicks[cut:]) for clicks, cut in rows], np.int64
        ),
        whole=_sessions(by_visitor.values()),
    )


def clicks_of_eshop2008(folder: Path) -> dict[str, list[Click]]:
    """By visitor, with fields of their own."""
    by_visitor, _ = _eshop2008(folder, _own_fields)
    return {visitor: [click for _, click in clicks] for visitor, clicks in by_visitor.items()}


class Site(NamedTuple):
    load: Callable[[Path], RealTask]
    parts: tuple[Part, ...]
    counts: tuple[int | None, ...]
    training: Mapping[str, Any]


SITES: Mapping[str, Site] = {
    "shop1999": Site(
        shop1999_payment, FIVE_FOLDS, (50, 100, 400, None), {"epochs": 20, "min_count": MIN_COUNT}
    ),
    "pisa_cc": Site(pisa_cc_solved, TEST, (50, 100, 500, 2_000, None), {"epochs": 3}),
    "eshop2008": Site(eshop2008_sale, TEST, (100, 500), {"epochs": 4}),
    "eshop2008_fields": Site(
        eshop2008_sale_by_fields, TEST, (100, 500), {"epochs": 4, "fields": _FIELDS_OF_ESHOP2008}
    ),
}
"""Epochs are what the size of each allows."""


def _looks_at_sale(clicks: Sequence[tuple[Event, Click]]) -> bool:
    return any(click.category == _SALE for _, click in clicks)


def _by_visitor(
    folder: Path, name: str, as_click: Callable[[Event], Click] = click_of
) -> dict[str, list[tuple[Event, Click]]]:
    found: dict[str, list[tuple[Event, Click]]] = defaultdict(list)
    for event in read(folder, f"{name}.events"):
        found[event["visitor_id"]].append((event, as_click(event)))
    return found


def _eshop2008(
    folder: Path, as_click: Callable[[Event, Mapping[str, Event]], Click]
) -> tuple[dict[str, list[tuple[Event, Click]]], dict[str, Event]]:
    """Clicks with all fields by visitor, and what the shop says besides of each event."""
    context = {row["event_id"]: row for row in read(folder, "eshop2008.context")}
    return _by_visitor(folder, "eshop2008", lambda event: as_click(event, context)), context


def _sessions(some: Iterable[Sequence[tuple[Event, Click]]]) -> list[Session]:
    return [session_of(clicks[0][0]["visitor_id"], [click for _, click in clicks]) for clicks in some]


def _gaps(sessions: Sequence[Session]) -> Columns:
    """Logs of the times between the clicks, of which all sessions have the same number."""
    stamps = np.array([[click.timestamp for click in session.clicks] for session in sessions])
    logs = np.log1p(np.diff(stamps, axis=1) / 1_000.0)
    return {f"gap {place + 1}": logs[:, place].tolist() for place in range(logs.shape[1])}


def _all_fields(event: Event, context: Mapping[str, Event]) -> Click:
    """Price, colour, photography and page of the list go into fields that this shop leaves empty."""
    more = context[event["event_id"]]
    above = "above the mean" if more["price_above_category_mean"] else "below the mean"
    return replace(
        click_of(event),
        event_type=above,
        page_type=f"{event['price']:g}",
        path=f"/{more['colour_code']}/{more['model_photography']}/{more['site_page']}",
        device=str(more["country_code"]),
    )


def _own_fields(event: Event, context: Mapping[str, Event]) -> Click:
    """As `_all_fields`, but each in a field of its own, for recipes that ask for them."""
    more = context[event["event_id"]]
    return replace(
        _all_fields(event, context),
        page_type=None,
        path=None,
        extras={f"properties.{name}": str(more[name]) for name in _SHOWN},
    )


def _by_product(session: Session) -> Session:
    """N-grams of products rather than of what they are like."""
    clicks = [
        replace(click, path=None, page_type=click.product_id, product_id=None, extras=None)
        for click in session.clicks
    ]
    return replace(session, clicks=clicks)


def _shopping(beginnings: Sequence[Sequence[Event]], context: Mapping[str, Event]) -> Columns:
    more = [[context[event["event_id"]] for event in events] for events in beginnings]
    prices = [[float(event["price"]) for event in events] for events in beginnings]
    return {
        "clicks": [float(len(events)) for events in beginnings],
        "products": [float(len({event["product_id"] for event in events})) for events in beginnings],
        "categories": [float(len({event["category"] for event in events})) for events in beginnings],
        "last price": [each[-1] for each in prices],
        "mean price": [float(np.mean(each)) for each in prices],
        "lowest price": [min(each) for each in prices],
        "share above the mean": [
            float(np.mean([c["price_above_category_mean"] for c in each])) for each in more
        ],
        "last page": [float(each[-1]["site_page"]) for each in more],
        "furthest page": [float(max(c["site_page"] for c in each)) for each in more],
        "country": [str(each[0]["country_code"]) for each in more],
        "colour": [str(each[-1]["colour_code"]) for each in more],
        "place": [str(events[-1]["element"]) for events in beginnings],
        "category": [str(events[-1]["category"]) for events in beginnings],
    }
