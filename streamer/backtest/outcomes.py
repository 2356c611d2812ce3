"""Outcomes as somebody wrote them down: JSON lines, plain or gzipped, of two kinds that may be mixed.

- `{"visitor_id": "v", "time": 1700000000000, "outcome": "mortgage"}`: something the visitor did.
- `{"visitor_id": "v", "time": ..., "tiles": ["a", "b"], "clicked": "b"}`: what was shown, and the one
  clicked, or null.

`time` is ms UTC or RFC 3339. Every line shows as many tiles as every other.
"""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import msgspec

from models.evaluation.rows import Outcomes
from streamer.errors import UsageError
from streamer.line_file import lines_of


class _Line(msgspec.Struct):
    visitor_id: str
    time: int | dt.datetime
    outcome: str | None = None
    tiles: list[str] | None = None
    clicked: str | None = None

    @property
    def at_ms(self) -> int:
        time = self.time
        return time if isinstance(time, int) else round(time.timestamp() * 1000)

    @property
    def is_sound(self) -> bool:
        if self.tiles is None:
            return bool(self.outcome)
        return self.outcome is None and (self.clicked is None or self.clicked in self.tiles)


def read_outcomes(path: Path) -> Outcomes:
    """Raises UsageError that names the line; what stands in it isn't repeated."""
    impressions: list[dict[str, Any]] = []
    conversions: list[dict[str, Any]] = []
    visitors: dict[str, None] = {}
    for number, raw in lines_of(path, "outcomes as JSON lines"):
        line = _parsed(path, number, raw)
        visitors[line.visitor_id] = None
        row = {"user_id": line.visitor_id, "time": line.at_ms}
        if line.tiles is None:
            conversions.append(row | {"product": line.outcome})
            continue
        impressions.append(row | {"tiles": line.tiles, "clicked": line.clicked})
        if len(line.tiles) != len(impressions[0]["tiles"]):
            raise UsageError(
                f"{path}, line {number}: {len(line.tiles)} tiles, the first such line has"
                f" {len(impressions[0]['tiles'])}; expected the same number in each"
            )
    return Outcomes([_user(visitor) for visitor in visitors], impressions, conversions)


def _user(visitor_id: str) -> dict[str, Any]:
    """Nothing is known of a visitor but what happened."""
    unknown = {"age": 0, "tenure_months": 0, "device": "", "holdings": []}
    return {"user_id": visitor_id, "linked_visitor_id": visitor_id, **unknown}


def _parsed(path: Path, number: int, raw: bytes) -> _Line:
    try:
        line = msgspec.json.decode(raw, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        line = None
    if line is None or not line.is_sound:
        raise UsageError(
            f"{path}, line {number}: expected visitor_id, time, and either outcome or tiles with clicked, one"
            " of them or null"
        )
    return line
