"""The backtest of a replay's file: everything that is to be told of its bundles, as one JSON document."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from streamer.backtest.contrast import Contrast
from streamer.backtest.page import page
from streamer.backtest.pairs import COLUMNS, sessions_side_by_side
from streamer.backtest.shares import LabelShares
from streamer.errors import UsageError

BOOTSTRAP_SEED = 1


def backtest(rows: Path, summary: dict[str, Any], outcomes: Path | None) -> dict[str, Any]:
    """`summary`: the replay's own, which names the bundles in order; the first is what others are held
    against. Raises UsageError."""
    models = [bundle["model_version"] for bundle in summary["bundles"]]
    if len(models) < 2:
        raise UsageError("--report: expected at least two --bundle to compare")
    contrasts = [Contrast(models[0], model) for model in models[1:]]
    shares = LabelShares()
    for sides in sessions_side_by_side(rows, [*COLUMNS, "clicks.list.element.path"]):
        shares.add(sides)
        for contrast in contrasts:
            contrast.add(sides)
    document = {
        "replay": {k: summary[k] for k in ("source", "from", "to", "rules_version", "clicks", "sessions")},
        "bundles": models,
        "contrasts": [contrast.as_dict() for contrast in contrasts],
        "label_shares": shares.as_dict(),
        "outcomes": None,
    }
    if outcomes is not None:
        from streamer.backtest.outcomes import read_outcomes
        from streamer.backtest.tasks import measure

        document["outcomes"] = measure(rows, models, read_outcomes(outcomes), BOOTSTRAP_SEED)
    return document


def write_report(document: dict[str, Any], html: Path) -> Path:
    """Write the page, and the document as JSON beside it; returns where that is."""
    html.parent.mkdir(parents=True, exist_ok=True)
    beside = html.with_suffix(".json")
    beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    html.write_text(page(document), encoding="utf-8")
    return beside
