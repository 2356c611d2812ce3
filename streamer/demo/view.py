"""The demo's terminal view: the tally as tables. Draws only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamer.demo.tally import Tally, label_of

TOP_INTENTS = 14
BAR_CELLS = 18


def live_view(tally: Tally) -> RenderableType:
    """Progress on top, the latest sessions left, how often each intent came up right."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row(_recent(tally), _shares(tally))
    return Group(
        _head(tally), ProgressBar(total=max(tally.clicks_total, 1), completed=tally.clicks_sent), grid
    )


def one_line(record: Mapping[str, Any]) -> str:
    """A session intent for terminals that can't be redrawn, and for files."""
    minutes = (record["ended_at"] - record["started_at"]) / 60_000
    return (
        f"{record['visitor_id']:<20.20} {record['event_count']:>4} clicks {minutes:>6.1f} min  "
        f"{_verdict(record)}"
    )


def summary(tally: Tally) -> str:
    """What came of the clicks, in a few lines."""
    named = sum(tally.intents.values())
    lines = [
        f"{tally.clicks_sent:,} clicks made {tally.sessions:,} sessions ({tally.bots:,} of bots); "
        f"{named:,} with a clear intent, {tally.sessions - named:,} without",
        *(f"  {count:>5,}  {label}" for label, count in tally.intents.most_common()),
        *(f"  {count:>5,}  (no label: {reason})" for reason, count in tally.abstained.most_common()),
    ]
    counters = tally.counters
    if counters is not None:
        lines.append(
            f"every click accounted for: {counters.received:,} in = {counters.closed:,} in sessions + "
            f"{counters.late:,} late + {counters.dead_lettered:,} dead letters + "
            f"{counters.duplicates:,} duplicates + {counters.filtered:,} without consent"
        )
    return "\n".join(lines)


def _head(tally: Tally) -> Text:
    return Text.assemble(
        ("clicks to intent  ", "bold"),
        f"{tally.clicks_sent:,}/{tally.clicks_total:,} clicks  ",
        (f"{tally.sessions:,} sessions", "cyan"),
        f"  {tally.bots:,} bots  ",
        (tally.model_version, "dim"),
    )


def _recent(tally: Tally) -> Table:
    table = Table(title="sessions as they close", title_justify="left", box=None, pad_edge=False)
    for name, justify in (("visitor", "left"), ("clicks", "right"), ("min", "right"), ("intent", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for record in list(tally.recent):  # a copy: the view is drawn by a thread of its own
        minutes = (record["ended_at"] - record["started_at"]) / 60_000
        style = "dim" if record["abstained"] else ""
        table.add_row(
            Text(record["visitor_id"][:14]),
            str(record["event_count"]),
            f"{minutes:.1f}",
            Text(_verdict(record), style=style),
        )
    return table


def _shares(tally: Tally) -> Table:
    table = Table(title="intents so far", title_justify="left", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right")
    table.add_column("", no_wrap=True)
    most = tally.intents.most_common(TOP_INTENTS)
    for label, count in most:
        bar = "█" * max(1, round(BAR_CELLS * count / most[0][1]))
        table.add_row(Text(label), f"{count:,}", Text(bar, style="cyan"))
    return table


def _verdict(record: Mapping[str, Any]) -> str:
    if record["abstained"]:
        return f"({record['abstain_reason']})"
    best = next(i for i in record["intents"] if i["intent_id"] == record["top_intent"])
    return f"{label_of(record)} {best['probability']:.0%}"
