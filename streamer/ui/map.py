"""The map: sessions that are alike lie near each other."""

from __future__ import annotations

from typing import Any

from nicegui import events, ui

from streamer.ui.feed import Feed
from streamer.ui.frame import colour_of
from streamer.ui.state import NO_LABEL
from streamer.ui.widgets import FAINT_COLOUR, GRID_COLOUR, session_link
from streamer.ui.wording import name_of, percent, verdict

DRAWN_EVERY_S = 3.0
MOST_POINTS = 1000


class MapPage:
    """What one browser sees of it."""

    def __init__(self, feed: Feed) -> None:
        self._state = feed.state
        self._drawn = -1
        ui.html("<h1>Map of sessions</h1>", sanitize=False)
        if feed.projection is None:
            ui.label(
                "This bundle has no prototypes, so there is no map: streamer model prototypes adds them."
            ).classes("notice")
            return
        with ui.column().classes("panel w-full"):
            ui.label(
                f"The newest {MOST_POINTS:,} sessions at most, each where its embedding lies along the two"
                " directions in which the bundle's prototypes differ most"
                f" ({percent(feed.projection.kept)} of their variance). Near means alike; far may be alike in"
                " ways that two directions don't show. A click on a point opens the session; the live page"
                " lists the same sessions."
            ).classes("faint")
            self._chart = ui.echart(_chart(), on_point_click=_open).classes("w-full").style("height: 70vh")
            self._chart.props(
                'role="img" aria-label="Map of session embeddings, coloured by group of intents"'
            )
            self._told = ui.label().classes("faint")
        self.draw()
        ui.timer(DRAWN_EVERY_S, self.draw)

    def draw(self) -> None:
        """If something has changed."""
        if self._state.version == self._drawn:
            return
        self._drawn = self._state.version
        placed = self._state.placed(MOST_POINTS)
        known = self._state.groups()
        groups: dict[str, list[dict[str, Any]]] = {}
        for session, point in placed:
            label = session.label
            group = NO_LABEL if label is None else label.parent or label.intent_id
            name = f"{verdict(session)}, {session.event_count} clicks"
            groups.setdefault(group, []).append(
                {"name": name, "value": [*(round(each, 3) for each in point), session.session_id]}
            )
        self._chart.options["series"] = [
            {
                "name": name_of(group, {}),
                "type": "scatter",
                "symbolSize": 8,
                "itemStyle": {"color": colour_of(group, known), "opacity": 0.75},
                "data": groups[group],
            }
            for group in sorted(groups, key=lambda each: (each == NO_LABEL, each))
        ]
        self._chart.update()
        self._told.text = f"{len(placed):,} sessions" if placed else "No session has come with a vector yet."


def _open(event: events.EChartPointClickEventArguments) -> None:
    if isinstance(event.value, list):  # x, y, session
        ui.navigate.to(session_link(event.value[2]))


def _chart() -> dict[str, Any]:
    axis = {
        "type": "value",
        "min": -1,
        "max": 1,
        "axisLabel": {"show": False},
        "axisTick": {"show": False},
        "axisLine": {"show": False},
        "splitLine": {"lineStyle": {"color": GRID_COLOUR}},
    }
    return {
        "animation": False,
        "grid": {"left": 8, "right": 8, "top": 8, "bottom": 40},
        "tooltip": {"trigger": "item", "confine": True, "formatter": "{b}"},
        "legend": {"bottom": 0, "type": "scroll", "textStyle": {"color": FAINT_COLOUR}},
        "xAxis": axis,
        "yAxis": axis,
        "series": [],
    }
