"""The first page: what visitors want right now, and how the stream is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from nicegui import ui

from streamer.ui.feed import Feed
from streamer.ui.frame import colour_of
from streamer.ui.state import NO_LABEL, SCALES_MS, Customer, Filter, Session, Shares
from streamer.ui.widgets import FAINT_COLOUR, GRID_COLOUR, button, session_link, short, table
from streamer.ui.wording import clock, date_and_clock, duration, name_of, pace, percent, verdict

DRAWN_EVERY_S = 1.0
ROWS = 15
_ALL = "all"
_NONE = "no label"
_REACHES = {120_000: "2 minutes", 600_000: "10 minutes", 7_200_000: "2 hours"}
_FIRST_REACH_MS = 600_000
_BAR = """
<q-td :props="props" style="width: 40%">
  <div class="bar" :style="{ width: props.row.width, background: props.row.colour }"></div>
</q-td>
"""


class LivePage:
    """What one browser sees; it is drawn anew while something changes."""

    def __init__(self, feed: Feed, now_ms: Callable[[], int]) -> None:
        self._feed = feed
        self._state = feed.state
        self._now_ms = now_ms
        self._wanted = Filter()
        self._reach_ms = _FIRST_REACH_MS
        self._is_paused = False
        self._drawn: object = None
        ui.html("<h1>What visitors want right now</h1>", sanitize=False)
        self._health = _HealthStrip()
        self._draw_controls()
        with ui.element("div").classes("w-full grid grid-cols-1 lg:grid-cols-5 gap-3 items-start"):
            with ui.column().classes("lg:col-span-3 gap-3 min-w-0 w-full"):
                with ui.column().classes("panel w-full"):
                    self._draw_sessions()
                self._draw_hand_overs()
            with ui.column().classes("panel lg:col-span-2 w-full"):
                self._draw_shares()
        self.draw()
        ui.timer(DRAWN_EVERY_S, self.draw)

    def _draw_controls(self) -> None:
        with ui.row().classes("w-full items-center gap-3"):
            self._intent = ui.select(
                {_ALL: "All intents"}, value=_ALL, label="Intent", on_change=self._filtered
            )
            self._intent.props("dense outlined options-dense").classes("w-56")
            self._customers = ui.checkbox("Only customers", on_change=self._filtered)
            self._bots = ui.checkbox("With bots", on_change=self._filtered)
            self._paused = ui.checkbox("Pause", on_change=self._filtered)
            ui.space().classes("max-sm:hidden")
            find = ui.input("Visitor, customer or session").props("dense outlined").classes("w-64")

            def open_found() -> None:
                if text := (find.value or "").strip():
                    ui.navigate.to(f"/find/{quote(text, safe='')}")

            find.on("keydown.enter", open_found)
            button("Open", open_found)

    def _draw_sessions(self) -> None:
        with ui.row().classes("w-full items-baseline gap-3"):
            ui.html("<h2>Sessions as they close</h2>", sanitize=False)
            self._pace = ui.label().classes("faint").props('role="status"')
        columns = {"closed": "Closed", "intent": "Intent", "probability": "Probability", "clicks": "Clicks"}
        columns |= {"lasted": "Lasted", "visitor": "Visitor", "customer": "Customer"}
        self._sessions = table(
            columns,
            "id",
            links=("intent", "visitor", "customer"),
            wide=("clicks", "lasted", "visitor", "customer"),
        )
        self._empty = ui.label().classes("faint")

    def _draw_shares(self) -> None:
        with ui.row().classes("w-full items-center gap-3"):
            ui.html("<h2>Share of each intent</h2>", sanitize=False)
            ui.space()
            reach = ui.select(_REACHES, value=self._reach_ms, label="Over the last")
            reach.props("dense outlined options-dense").classes("w-36")
            reach.on_value_change(lambda event: self._look_back(event.value))
        self._chart = ui.echart(_chart()).classes("w-full h-52")
        self._chart.props(
            'role="img" aria-label="Sessions by group of intents over time; the table below has the sums"'
        )
        self._bars = table({"intent": "Intent", "share": "Share", "count": "Sessions", "bar": ""}, "id")
        self._bars.add_slot("body-cell-bar", _BAR)

    def _draw_hand_overs(self) -> None:
        with ui.column().classes("panel w-full"):
            ui.html("<h2>Hand-over at login</h2>", sanitize=False)
            ui.label("Who has just logged in and goes on browsing, and what they had looked at.").classes(
                "faint"
            )
            columns = {"at": "At", "customer": "Customer", "intent": "Intent", "whose": "Attribution"}
            self._hand_overs = table(columns, "id", links=("customer",))
            self._no_hand_over = ui.label("Nobody yet.").classes("faint")

    def _filtered(self) -> None:
        chosen = self._intent.value
        outcome = None if chosen == _ALL else NO_LABEL if chosen == _NONE else chosen
        self._wanted = Filter(outcome, self._customers.value, self._bots.value)
        self._is_paused = self._paused.value
        self.draw()

    def _look_back(self, reach_ms: int) -> None:
        self._reach_ms = reach_ms
        self.draw()

    def draw(self) -> None:
        """What has changed since."""
        self._health.draw(self._feed)
        now_ms = self._now_ms()
        step = now_ms // (SCALES_MS[self._reach_ms] // 5)
        seen = (self._state.version, self._wanted, self._reach_ms, step)
        if self._is_paused or seen == self._drawn:
            return
        self._drawn = seen
        self._list_sessions(now_ms)
        self._list_shares(now_ms)
        self._hand_overs.rows = [_hand_over_row(each) for each in list(self._state.hand_overs)[:8]]
        self._no_hand_over.visible = not self._state.hand_overs

    def _list_sessions(self, now_ms: int) -> None:
        recent = self._state.recent(self._wanted, ROWS, now_ms)
        self._pace.text = pace(recent)
        self._sessions.rows = [_session_row(each) for each in recent.rows]
        has_any = self._state.sessions_seen > 0
        self._empty.text = (
            "No session passes this filter."
            if has_any
            else "No session has closed yet: the first rows come with the first."
        )
        self._empty.visible = not recent.rows
        names = self._state.labels
        parents = self._state.groups()
        options = {_ALL: "All intents", _NONE: "No label"}
        for parent in parents:
            options[parent] = f"All of {parent}"
            options |= {i: names[i] for i, of in sorted(self._state.parents.items()) if of == parent}
        if options != self._intent.options:
            self._intent.set_options(options, value=self._intent.value)

    def _list_shares(self, now_ms: int) -> None:
        shares = self._state.shares(self._wanted, self._reach_ms, now_ms)
        parents = self._state.groups()
        totals = shares.totals
        every = max(sum(totals.values()), 1)
        largest = max(totals.values(), default=1)
        self._bars.rows = [
            {
                "id": outcome,
                "intent": name_of(outcome, self._state.labels),
                "share": percent(count / every),
                "count": f"{count:,}",
                "width": f"{100 * count / largest:.1f}%",
                "colour": colour_of(self._state.parents.get(outcome) or "", parents),
            }
            for outcome, count in totals.items()
            if count
        ]
        self._chart.options["series"] = _series(shares, self._state.parents, parents)
        self._chart.update()


def _session_row(session: Session) -> dict[str, Any]:
    best = session.label or (session.intents[0] if session.intents else None)
    return {
        "id": session.session_id,
        "closed": clock(session.closed_at),
        "intent": verdict(session) + (" · bot" if session.is_bot else ""),
        "intent_link": session_link(session.session_id),
        "probability": percent(best.probability) if best and session.label else "",
        "clicks": session.event_count,
        "lasted": duration(session.ended_at - session.started_at),
        "visitor": short(session.visitor_id),
        "visitor_link": f"/visitors/{quote(session.visitor_id, safe='')}",
        "customer": short(session.user_id or ""),
        "customer_link": f"/customers/{quote(session.user_id, safe='')}" if session.user_id else None,
    }


def _hand_over_row(customer: Customer) -> dict[str, Any]:
    label = customer.label
    return {
        "id": customer.session_id,
        "at": clock(customer.published_at),
        "customer": short(customer.user_id),
        "customer_link": f"/customers/{quote(customer.user_id, safe='')}",
        "intent": "no label yet" if label is None else f"{label.label} {percent(label.probability)}",
        "whose": f"{customer.attribution}, {percent(customer.confidence)}",
    }


def _chart() -> dict[str, Any]:
    return {
        "animation": False,
        "useUTC": True,
        "grid": {"left": 36, "right": 8, "top": 8, "bottom": 48},
        "tooltip": {"trigger": "axis", "confine": True},
        "legend": {
            "bottom": 0,
            "type": "scroll",
            "textStyle": {"color": FAINT_COLOUR},
            "itemWidth": 10,
            "itemHeight": 10,
            "itemGap": 8,
        },
        "xAxis": {"type": "time", "axisLabel": {"color": FAINT_COLOUR, "hideOverlap": True}},
        "yAxis": {
            "type": "value",
            "minInterval": 1,
            "axisLabel": {"color": FAINT_COLOUR},
            "splitLine": {"lineStyle": {"color": GRID_COLOUR}},
        },
        "series": [],
    }


def _series(shares: Shares, parents: dict[str, str | None], known: list[str]) -> list[dict[str, Any]]:
    """Stacked areas of the parents; an intent without one is a group of its own."""
    groups: dict[str, Counter[int]] = {}
    for outcome, counts in shares.counts.items():
        group = NO_LABEL if outcome == NO_LABEL else parents.get(outcome) or outcome
        groups.setdefault(group, Counter()).update(dict(zip(shares.starts_ms, counts, strict=True)))
    return [
        {
            "name": name_of(group, {}),
            "type": "bar",
            "stack": "all",
            "barCategoryGap": "10%",
            "itemStyle": {"color": colour_of(group, known)},
            "data": [[start, groups[group][start]] for start in shares.starts_ms],
        }
        for group in sorted(groups, key=lambda each: (each == NO_LABEL, each))
    ]


class _HealthStrip:
    """Where the workers stand."""

    def __init__(self) -> None:
        with ui.element("section").props('aria-label="Health of the stream"').classes("panel w-full"):
            with ui.element("dl").classes("grid grid-cols-2 sm:grid-cols-3 lg:grid-cols-6 gap-3 m-0"):
                self._watermark = self._figure("Watermark")
                self._lag = self._figure("Lag")
                self._open = self._figure("Open")
                self._sessions = self._figure("Closed")
                self._late = self._figure("Late")
                self._dead = self._figure("Dead letters")
            self._reasons = ui.label().classes("faint")

    def _figure(self, name: str) -> tuple[ui.label, ui.label]:
        with ui.element("div"):
            with ui.element("dt").classes("faint"):
                ui.label(name)
            with ui.element("dd").classes("m-0"):
                return ui.label("…").classes("figure"), ui.label().classes("faint")

    def draw(self, feed: Feed) -> None:
        health, state = feed.health, feed.state
        if health is None:
            for figure, note in (
                self._watermark,
                self._lag,
                self._open,
                self._sessions,
                self._late,
                self._dead,
            ):
                figure.text, note.text = "…", "not known"
            return
        counters = health.counters
        mark = health.watermark
        _say(self._watermark, "none yet" if mark is None else clock(mark), _behind(mark, health.behind_ms))
        _say(self._lag, f"{health.lag:,}", "clicks to process")
        _say(self._open, f"{counters.open():,}", "clicks in open sessions")
        _say(self._sessions, f"{counters.sessions:,}", f"sessions of {counters.closed:,} clicks")
        _say(self._late, f"{counters.late:,}", "clicks too late for a session")
        _say(self._dead, f"{counters.dead_lettered:,}", "clicks that can't be used")
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in state.dead.most_common(6))
        unreadable = f"{state.unreadable:,} records can't be read. " if state.unreadable else ""
        self._reasons.text = unreadable + (f"Dead letters seen here by reason: {reasons}" if reasons else "")
        self._reasons.visible = bool(self._reasons.text)


def _behind(watermark: int | None, behind_ms: int | None) -> str:
    if watermark is None or behind_ms is None:
        return "no click has come"
    return f"{date_and_clock(watermark)[:10]}, {duration(behind_ms)} behind arrival"


def _say(place: tuple[ui.label, ui.label], figure: str, note: str) -> None:
    place[0].text, place[1].text = figure, note
