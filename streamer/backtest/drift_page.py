"""What `streamer model drift` has found, as a page: no script, no network, everything escaped."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
from html import escape

from streamer.backtest.page import STYLE, Json, percent, table
from streamer.models.evaluation import plots

_SIDES = ("before", "after")


def drift_page(document: Json) -> str:
    """The whole page."""
    return "\n".join(_page(document)) + "\n"


def _page(document: Json) -> Iterator[str]:
    yield "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Drift</title>"
    yield f"<style>{STYLE}img{{max-width:100%}}</style></head><body>"
    yield f"<h1>Drift: {escape(document['verdict'])}</h1>"
    sessions = document["sessions"]
    before = "of the bundle's profile" if document["against"] == "profile" else "before"
    yield (
        f"<p class='note'>{escape(document['model_version'])}: {sessions['after']:,} sessions after against"
        f" {sessions['before']:,} {before}. 95 % intervals in brackets, from a bootstrap over visitors; moved"
        " means that the whole interval is beyond the limit.</p>"
    )
    yield from _parts(document)
    yield from _days(document)
    if document["outcomes"] is not None:
        yield from _outcomes(document["outcomes"])
    yield "</body></html>"


def _parts(document: Json) -> Iterator[str]:
    yield "<h2>What sessions look like</h2>"
    rows = []
    for part in document["parts"]:
        low, high = part["psi_interval"]
        changes = "; ".join(f"{name}: {percent(a)} to {percent(b)}" for name, a, b in part["changes"])
        rows.append((part["part"], f"{part['psi']:.3f} [{low:.3f}, {high:.3f}]", part["verdict"], changes))
    yield from table(("part", "population stability index", "verdict", "largest changes"), rows)


def _days(document: Json) -> Iterator[str]:
    yield "<h2>By day</h2>"
    days = document["days"]
    if not days:
        yield "<p class='note'>No day has sessions enough to tell.</p>"
        return
    first, last = (
        dt.datetime.fromtimestamp(days[at]["day"] / 1000, dt.UTC).date().isoformat() for at in (0, -1)
    )
    yield from _image(plots.drift(days, document["since"]), f"Index by day, {first} to {last}")


def _outcomes(found: Json) -> Iterator[str]:
    yield "<h2>What follows them</h2>"
    if "skipped" in found:
        yield f"<p class='note'>Not measured: {escape(found['skipped'])}.</p>"
        return
    sessions, tested = found["sessions"], found["tested"]
    yield (
        f"<p class='note'>Outcomes within {found['within_days']} days: {sessions['before']:,} sessions"
        f" before, {sessions['after']:,} after. Probabilities are of a head on the embedding, learnt from the"
        f" sessions before; they are tested on {tested['before']:,} and {tested['after']:,} sessions of"
        " visitors that it has not seen.</p>"
    )
    for title, key in (
        ("share of sessions that it follows", "rates"),
        ("claimed over came true", "claimed_over_true"),
    ):
        yield from table(
            (f"outcome: {title}", *_SIDES, "change", "verdict"),
            [
                (
                    each["outcome"],
                    *(_value(each[side]) for side in _SIDES),
                    _value(each["change"], "+.1%"),
                    each["verdict"],
                )
                for each in found[key]
            ],
        )
    error = found["ece"]
    rise = _value(error["rise_over_rate"], "+.1%")
    yield from table(
        ("over all outcomes", *_SIDES, "rise, as a share of the rate now", "verdict"),
        [("calibration error", *(_value(error[side]) for side in _SIDES), rise, error["verdict"])],
    )
    yield from _image(plots.calibration_drift(found["reliability"]), "Claimed against what came true")


def _value(estimate: Json, shape: str = ".3f") -> str:
    return "{} [{}, {}]".format(*(_number(estimate[name], shape) for name in ("value", "low", "high")))


def _number(value: float | None, shape: str) -> str:
    return "-" if value is None else f"{value:{shape}}"


def _image(png: bytes, title: str) -> Iterator[str]:
    image = base64.b64encode(png).decode()
    yield f"<figure><img alt='{escape(title)}' src='data:image/png;base64,{image}'></figure>"
