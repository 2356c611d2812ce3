"""The taxonomy as a tree: what the page has seen of each intent, and whether traffic has drifted from it."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from streamer.models.bundle import Bundle
from streamer.models.drift import verdict as drift_verdict
from streamer.models.taxonomy import Intent
from streamer.ui.drift import drift_of
from streamer.ui.feed import Feed
from streamer.ui.state import SCALES_MS, Filter
from streamer.ui.widgets import session_link, table
from streamer.ui.wording import clock, duration, percent

DRAWN_EVERY_S = 3.0
EXAMPLES = 3
_REACH_MS = max(SCALES_MS)


class IntentsPage:
    """What one browser sees of it."""

    def __init__(self, feed: Feed, bundle: Bundle, now_ms: Callable[[], int]) -> None:
        self._state = feed.state
        self._bundle = bundle
        self._now_ms = now_ms
        self._drawn = -1
        self._seen: dict[str, ui.label] = {}
        self._examples: dict[str, ui.table] = {}
        taxonomy = bundle.taxonomy
        ui.html("<h1>Intents</h1>", sanitize=False)
        ui.label(
            f"Taxonomy {taxonomy.version} of {bundle.model_version}, teacher {taxonomy.teacher}. Shares are"
            f" of the sessions of the last {duration(_REACH_MS)}, bots left out."
        ).classes("faint")
        with ui.column().classes("panel w-full max-w-5xl"):
            ui.html("<h2>Drift</h2>", sanitize=False)
            self._drift = ui.label()
        with ui.column().classes("panel w-full max-w-5xl gap-1"):
            for parent in taxonomy.parents:
                with ui.element("details").props("open").classes("w-full"):
                    with ui.element("summary").classes("cursor-pointer py-1"):
                        ui.label(parent.label).classes("inline font-semibold")
                        self._seen[parent.id] = ui.label().classes("inline faint ml-2")
                    for intent in (each for each in taxonomy.intents if each.parent == parent.id):
                        self._draw_intent(intent)
        self.draw()
        ui.timer(DRAWN_EVERY_S, self.draw)

    def _draw_intent(self, intent: Intent) -> None:
        with ui.element("details").classes("ml-5"):
            with ui.element("summary").classes("cursor-pointer py-1"):
                ui.label(intent.label).classes("inline")
                self._seen[intent.id] = ui.label().classes("inline faint ml-2")
            with ui.column().classes("ml-5 gap-1"):
                if intent.description:
                    ui.label(intent.description).classes("faint")
                examples = table(
                    {"closed": "Closed", "session": "Newest examples", "clicks": "Clicks"},
                    "id",
                    links=("session",),
                )
                self._examples[intent.id] = examples

    def draw(self) -> None:
        """If something has changed."""
        if self._state.version == self._drawn:
            return
        self._drawn = self._state.version
        totals = self._state.shares(Filter(), _REACH_MS, self._now_ms()).totals
        every = max(sum(totals.values()), 1)
        for intent in self._bundle.taxonomy.intents:
            count = totals.get(intent.id, 0)
            self._seen[intent.id].text = f"{percent(count / every)} · {count:,}"
            newest = self._state.newest(Filter(intent.id), EXAMPLES)
            self._examples[intent.id].rows = [
                {
                    "id": each.session_id,
                    "closed": clock(each.closed_at),
                    "session": f"{percent(each.intents[0].probability)} sure",
                    "session_link": session_link(each.session_id),
                    "clicks": each.event_count,
                }
                for each in newest
            ]
        for parent in self._bundle.taxonomy.parents:
            of_parent = [each.id for each in self._bundle.taxonomy.intents if each.parent == parent.id]
            count = sum(totals.get(each, 0) for each in of_parent)
            self._seen[parent.id].text = f"{percent(count / every)} · {count:,}"
        self._drift.text = self._drift_text()

    def _drift_text(self) -> str:
        profile = self._bundle.manifest.profile
        if profile is None:
            return "This bundle has no profile, so drift can't be measured."
        found = drift_of(self._state.newest(Filter(), None), profile, self._bundle.model_version)
        if not found.psi:
            return f"{found.sessions} sessions of this model are held, too few to judge drift by."
        told = ", ".join(
            f"{part} {drift_verdict(value)} (PSI {value:.2f})" for part, value in found.psi.items()
        )
        return (
            f"The newest {found.sessions:,} sessions against those the bundle was made with: {told}. The"
            " workers' metric streamer_drift_psi has fields and novelty, too."
        )
