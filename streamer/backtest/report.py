"""The backtest of a replay's file: everything that it shows about its bundles, as one JSON document."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.backtest.contrast import COLUMNS, Contrast, Sides, label_of, sessions_side_by_side
from streamer.errors import UsageError
from streamer.output_file import cannot_write, output_file

if TYPE_CHECKING:
    from streamer.models.evaluation.task_rows import Outcomes

BOOTSTRAP_SEED = 1
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_MOST_HOURS = 72
"""A longer time range is shown by day."""


def backtest(rows: Path, summary: dict[str, Any], outcomes: Outcomes | None) -> dict[str, Any]:
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
        from streamer.backtest.tasks import measure

        document["outcomes"] = measure(rows, models, outcomes, BOOTSTRAP_SEED)
    return document


def write_report(document: dict[str, Any], html: Path, text: str) -> Path:
    """Write the page `text`, and the document as JSON beside it; returns where that is. Raises
    OutputError."""
    beside = html.with_suffix(".json")
    try:
        html.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(html, error) from None
    for path, content in ((beside, json.dumps(document, indent=1) + "\n"), (html, text)):
        with output_file(path) as file:
            file.write(content.encode())
    return beside


class LabelShares:
    """What share of the sessions each label has, over time and by bundle. `add` each session, then `as_dict`.

    Time is `closed_at`, when the label was known.
    """

    def __init__(self) -> None:
        self._by_hour: dict[str, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))

    def add(self, sides: Sides) -> None:
        for model, row in sides.items():
            self._by_hour[model][row["closed_at"] // HOUR_MS][label_of(row)] += 1

    def as_dict(self) -> dict[str, Any]:
        """step_ms, and by bundle: begin of each step -> label -> sessions."""
        hours = [hour for by_hour in self._by_hour.values() for hour in by_hour]
        step = HOUR_MS if not hours or max(hours) - min(hours) < _MOST_HOURS else DAY_MS
        found: dict[str, dict[int, Counter[str]]] = {}
        for model, by_hour in self._by_hour.items():
            steps: dict[int, Counter[str]] = defaultdict(Counter)
            for hour, counts in sorted(by_hour.items()):
                steps[hour * HOUR_MS // step * step].update(counts)
            found[model] = dict(steps)
        bundles = {
            model: {str(begin): dict(counts.most_common()) for begin, counts in steps.items()}
            for model, steps in found.items()
        }
        return {"step_ms": step, "bundles": bundles}
