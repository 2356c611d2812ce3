"""What the demo has seen so far, and how the terminal shows it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streamer.identity.attribution import SessionCounts
from streamer.identity.changes import LINK, LOGIN
from streamer.pipeline.counters import ClickCounters

RECENT = 8
HAND_OVERS = 4
TOP_INTENTS = 14
BAR_CELLS = 18


@dataclass
class DemoProgress:
    """`recent` are the latest final session intents, newest first; `intents` counts labels of top intents."""

    clicks_sent: int = 0
    clicks_total: int = 0
    sessions: int = 0
    bots: int = 0
    intents: Counter[str] = field(default_factory=Counter)
    abstained: Counter[str] = field(default_factory=Counter)
    recent: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=RECENT))
    counters: ClickCounters | None = None
    """Where every click ended; known at the end."""
    hand_overs: deque[Mapping[str, Any]] = field(default_factory=lambda: deque(maxlen=HAND_OVERS))
    """Customers' records as they came while their visitors went on browsing, newest first."""
    attributed: SessionCounts | None = None
    """Whose the sessions are; known at the end."""
    customers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Each customer's record; known at the end."""
    model_version: str = ""

    def see(self, record: Mapping[str, Any]) -> None:
        """Count one decoded session intent, a final one."""
        self.sessions += 1
        self.bots += record["is_bot"]
        self.model_version = record["model_version"]
        if record["abstained"]:
            self.abstained[record["abstain_reason"]] += 1
        else:
            self.intents[label_of(record)] += 1
        self.recent.appendleft(record)

    def as_json(self) -> dict[str, Any]:
        """The summary for `--json`."""
        counters = self.counters or ClickCounters()
        return {
            "clicks_sent": self.clicks_sent,
            "sessions": self.sessions,
            "bots": self.bots,
            "intents": dict(self.intents.most_common()),
            "abstained": dict(self.abstained.most_common()),
            "accounts": counters.as_dict(),
            "open": counters.open(),
            "attributed": msgspec.structs.asdict(self.attributed or SessionCounts()),
            "customers": len(self.customers),
            "model_version": self.model_version,
        }


def label_of(record: Mapping[str, Any]) -> str:
    """The label of a record's top intent; empty where the model abstained."""
    return next(
        (intent["label"] for intent in record["intents"] if intent["intent_id"] == record["top_intent"]), ""
    )


def live_view(seen: DemoProgress) -> RenderableType:
    """Progress on top, the latest sessions and hand-overs left, how often each intent came up right."""
    grid = Table.grid(padding=(0, 2))
    grid.add_row(Group(_recent(seen), _hand_overs(seen)), _shares(seen))
    return Group(_head(seen), ProgressBar(total=max(seen.clicks_total, 1), completed=seen.clicks_sent), grid)


def one_line(record: Mapping[str, Any]) -> str:
    """A session intent for terminals that can't be redrawn, and for files."""
    minutes = (record["ended_at"] - record["started_at"]) / 60_000
    return (
        f"{record['visitor_id']:<20.20} {record['event_count']:>4} clicks {minutes:>6.1f} min  "
        f"{_verdict(record)}"
    )


def hand_over_line(record: Mapping[str, Any]) -> str:
    """A customer's record at their login, in the same form."""
    return (
        f"{record['visitor_id']:<20.20} {record['event_count']:>4} clicks, logs in: "
        f"customer {record['user_id']} {_verdict(record)}"
    )


def summary(seen: DemoProgress) -> str:
    """What came of the clicks, in a few lines."""
    named = sum(seen.intents.values())
    lines = [
        f"{seen.clicks_sent:,} clicks made {seen.sessions:,} sessions ({seen.bots:,} of bots); "
        f"{named:,} with a clear intent, {seen.sessions - named:,} without",
        *(f"  {count:>5,}  {label}" for label, count in seen.intents.most_common()),
        *(f"  {count:>5,}  (no label: {reason})" for reason, count in seen.abstained.most_common()),
    ]
    counters = seen.counters
    if counters is not None:
        lines.append(
            f"every click accounted for: {counters.received:,} in = {counters.closed:,} in sessions + "
            f"{counters.late:,} late + {counters.dead_lettered:,} dead letters + "
            f"{counters.duplicates:,} duplicates + {counters.filtered:,} without consent"
        )
    if seen.attributed is not None:
        lines += _whose(seen.attributed, seen.customers)
    return "\n".join(lines)


def _whose(counts: SessionCounts, customers: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [
        f"every session accounted for: {counts.total:,} = {counts.login:,} by login + "
        f"{counts.link:,} by link + {counts.ambiguous:,} ambiguous + {counts.anonymous:,} anonymous + "
        f"{counts.bots:,} of bots"
    ]
    if customers:
        shown = max(customers.values(), key=_worth_showing)
        ways = Counter(session["attribution"] for session in shown["history"])
        lines += [
            f"{len(customers):,} customers have a record, for example {shown['user_id']}, "
            f"who browsed as {shown['visitor_id']} and logged in:",
            f"  {ways[LOGIN]} sessions by login, {ways[LINK]} by link, the latest {_verdict(shown)}",
        ]
    return lines


def _worth_showing(record: Mapping[str, Any]) -> tuple[bool, int, int, str]:
    ways = {session["attribution"] for session in record["history"]}
    return not record["abstained"], len(ways), record["sessions"], record["user_id"]


def _head(seen: DemoProgress) -> Text:
    return Text.assemble(
        ("clicks to intent  ", "bold"),
        f"{seen.clicks_sent:,}/{seen.clicks_total:,} clicks  ",
        (f"{seen.sessions:,} sessions", "cyan"),
        f"  {seen.bots:,} bots  ",
        (seen.model_version, "dim"),
    )


def _recent(seen: DemoProgress) -> Table:
    table = Table(title="sessions as they close", title_justify="left", box=None, pad_edge=False)
    for name, justify in (("visitor", "left"), ("clicks", "right"), ("min", "right"), ("intent", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for record in list(seen.recent):  # a copy: the view is drawn by a thread of its own
        minutes = (record["ended_at"] - record["started_at"]) / 60_000
        style = "dim" if record["abstained"] else ""
        table.add_row(
            Text(record["visitor_id"][:14]),
            str(record["event_count"]),
            f"{minutes:.1f}",
            Text(_verdict(record), style=style),
        )
    return table


def _hand_overs(seen: DemoProgress) -> Table:
    table = Table(title="customers as they log in", title_justify="left", box=None, pad_edge=False)
    for name, justify in (("visitor", "left"), ("clicks", "right"), ("is", "left"), ("intent", "left")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for record in list(seen.hand_overs):
        table.add_row(
            Text(record["visitor_id"][:14]),
            str(record["event_count"]),
            Text(record["user_id"][:10]),
            Text(_verdict(record), style="dim" if record["abstained"] else "green"),
        )
    return table


def _shares(seen: DemoProgress) -> Table:
    table = Table(title="intents so far", title_justify="left", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("", justify="right")
    table.add_column("", no_wrap=True)
    most = seen.intents.most_common(TOP_INTENTS)
    for label, count in most:
        bar = "█" * max(1, round(BAR_CELLS * count / most[0][1]))
        table.add_row(Text(label), f"{count:,}", Text(bar, style="cyan"))
    return table


def _verdict(record: Mapping[str, Any]) -> str:
    if record["abstained"]:
        return f"({record['abstain_reason']})"
    best = next(i for i in record["intents"] if i["intent_id"] == record["top_intent"])
    return f"{label_of(record)} {best['probability']:.0%}"
