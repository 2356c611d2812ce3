"""The page on which people change a taxonomy, and see what that does before they save it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from nicegui import events, ui

from streamer.models.evaluation.bootstrap import Estimate
from streamer.models.evaluation.taxonomy_preview import Confusion
from streamer.models.labelling.taxonomy_edits import MAX_CHARACTERS, RefusedEditError
from streamer.models.taxonomy import Intent, Parent, entries
from streamer.replay.shown_click import shown_click, words_of
from streamer.review.draft import ChangedOnDiskError, Review, share_of
from streamer.schemas.click import Session
from streamer.ui.widgets import button
from streamer.ui.wording import percent

_DRAWN_EVERY_S = 1.0
_CLICKS_SHOWN = 12
_CONFUSIONS_SHOWN = 8
_NEW_GROUP = ""
_CHANGED = (
    "The taxonomy or its labels have been changed on disk since they were read here, so nothing was saved."
    " Note your changes, then read it anew: that drops them."
)


class ReviewPage:
    """What one browser sees of it."""

    def __init__(self, review: Review, show_queries: bool) -> None:
        self._review = review
        self._client = ui.context.client
        self._show_queries = show_queries
        self._chosen = review.draft.taxonomy.intents[0].id
        self._drawn = -1
        self._by = ""
        self._buttons: dict[str, ui.button] = {}
        ui.html("<h1>Review of the taxonomy</h1>", sanitize=False)
        self._about = ui.label().classes("faint")
        self._told = ui.label().props('role="alert"')
        self._load = button("Read it anew", lambda: self._do(review.load))
        self._load.visible = False
        with ui.element("div").classes("w-full grid grid-cols-1 lg:grid-cols-2 gap-3 items-start"):
            self._tree = ui.column().classes("panel w-full gap-1")
            with ui.column().classes("gap-3 min-w-0 w-full"):
                self._entry = ui.column().classes("panel w-full")
                self._changes = ui.column().classes("panel w-full")
                self._confusions = ui.column().classes("panel w-full")
        self.draw()
        ui.timer(_DRAWN_EVERY_S, self.draw)

    def draw(self) -> None:
        """If something has changed, here or in another browser."""
        review = self._review
        if review.version == self._drawn:
            return
        self._drawn = review.version
        taxonomy = review.draft.taxonomy
        if self._chosen not in {each.id for each in entries(taxonomy)}:
            self._chosen = taxonomy.intents[0].id
        given = review.labelled.given
        self._about.text = (
            f"{review.folder.path / 'taxonomy.json'}, version {taxonomy.version}, teacher {taxonomy.teacher}."
            f" Shares are of the {len(given.train.rows) + len(given.validation.rows):,} labelled sessions, by"
            " the strongest label of each. Nothing is written before you save."
        )
        self._draw_tree()
        self._draw_entry()
        self._draw_changes()
        self._draw_confusions()

    def _draw_tree(self) -> None:
        taxonomy, shares = self._review.draft.taxonomy, self._review.shares
        self._tree.clear()
        self._buttons = {}
        with self._tree:
            ui.html("<h2>Intents</h2>", sanitize=False)
            for parent in taxonomy.parents:
                of_parent = [each for each in taxonomy.intents if each.parent == parent.id]
                self._draw_choice(parent, [each.id for each in of_parent], "font-semibold")
                for intent in of_parent:
                    self._draw_choice(intent, [intent.id], "ml-5")
            if shares.left_out:
                share = shares.left_out / (sum(shares.counts.values()) + shares.left_out)
                ui.label(f"Left out with what is retired: {percent(share)} of the sessions.").classes("faint")
        self._mark_chosen()

    def _draw_choice(self, entry: Parent | Intent, intents: list[str], css: str) -> None:
        now = percent(share_of(self._review.shares, intents))
        before = self._review.share_before(entry.id)
        was = "new" if before is None else f"was {percent(before)}"
        share = now if was == f"was {now}" else f"{now}, {was}"
        with ui.row().classes(f"items-baseline gap-2 no-wrap {css}"):
            self._buttons[entry.id] = button(entry.label, lambda: self._choose(entry.id), is_flat=True)
            ui.label(share).classes("faint numbers whitespace-nowrap")

    def _choose(self, id_: str) -> None:
        if id_ != self._chosen:
            self._chosen = id_
            self._mark_chosen()
            self._draw_entry()

    def _mark_chosen(self) -> None:
        for id_, choice in self._buttons.items():
            choice.props(f"aria-pressed={'true' if id_ == self._chosen else 'false'}")
            choice.classes(**{"add" if id_ == self._chosen else "remove": "chosen"})

    def _draw_entry(self) -> None:
        taxonomy = self._review.draft.taxonomy
        self._entry.clear()
        with self._entry:
            intent = next((each for each in taxonomy.intents if each.id == self._chosen), None)
            if intent is None:
                parent = next(each for each in taxonomy.parents if each.id == self._chosen)
                self._draw_heading("Group", parent)
                self._draw_name(parent.id, parent.label, None)
            else:
                self._draw_heading("Intent", intent)
                self._draw_name(intent.id, intent.label, intent.description)
                self._draw_ways(intent)
                self._draw_examples(intent)

    def _draw_heading(self, kind: str, entry: Parent | Intent) -> None:
        with ui.row().classes("items-baseline gap-3"):
            heading = ui.element("h2").props('id="chosen" tabindex="-1"')
            with heading:
                ui.label(f"{kind}: {entry.label}")
            ui.label(f"id {entry.id}").classes("faint break-all")

    def _draw_name(self, id_: str, label: str, description: str | None) -> None:
        with ui.row().classes("w-full items-center gap-3"):
            named = _text("Label", label, "grow")
            described = None if description is None else _text("Description", description, "grow")
            button(
                "Rename",
                lambda: self._do(
                    lambda: self._review.rename(
                        id_, named.value or "", None if described is None else described.value or ""
                    )
                ),
            )

    def _draw_ways(self, intent: Intent) -> None:
        review, taxonomy = self._review, self._review.draft.taxonomy
        with ui.row().classes("w-full items-center gap-3"):
            groups = {each.id: each.label for each in taxonomy.parents if each.id != intent.parent}
            group = _select("Group", groups | {_NEW_GROUP: "A new group …"})
            new_group = _text("Name of the new group", "", "w-56")
            new_group.bind_visibility_from(group, "value", value=_NEW_GROUP)

            def move() -> None:
                if group.value == _NEW_GROUP:
                    review.move_to_new_parent(intent.id, new_group.value or "")
                elif group.value is not None:
                    review.move(intent.id, group.value)

            button("Move", lambda: self._do(move))
        with ui.row().classes("w-full items-center gap-3"):
            others = {each.id: each.label for each in taxonomy.intents if each.id != intent.id}
            other = _select("Merge into", others)

            def merge() -> None:
                if other.value is not None:
                    review.merge(intent.id, other.value)
                    self._chosen = other.value

            button("Merge", lambda: self._do(merge))
            button("Split in two", lambda: self._split(intent.id))
            button("Retire", lambda: self._do(lambda: review.retire(intent.id)))
        ui.label(
            "Split: by the two clusters into which its sessions fall best. Retire: its sessions are left out."
        ).classes("faint")

    def _draw_examples(self, intent: Intent) -> None:
        ui.html("<h3>Examples</h3>", sanitize=False)
        if intent.terms:
            ui.label(f"Typical words: {', '.join(intent.terms)}").classes("faint")
        examples = self._review.examples(intent.id)
        if not examples:
            ui.label("No session to learn from has this label.").classes("faint")
        for number, session in enumerate(examples):
            clicks = "1 click" if session.event_count == 1 else f"{session.event_count} clicks"
            with ui.element("details").props("open" if number == 0 else "").classes("w-full"):
                with ui.element("summary").classes("cursor-pointer py-1"):
                    ui.label(f"A session of {clicks}").classes("inline")
                with ui.element("ol").classes("m-0 pl-8 list-decimal"):
                    for line in _lines(session, self._show_queries):
                        with ui.element("li").classes("break-all"):
                            ui.label(line)
                if session.event_count > _CLICKS_SHOWN:
                    ui.label(f"and {session.event_count - _CLICKS_SHOWN} more").classes("faint")

    def _draw_changes(self) -> None:
        review = self._review
        self._changes.clear()
        with self._changes:
            ui.html("<h2>Changes, and what they do</h2>", sanitize=False)
            if not review.steps:
                ui.label("Nothing has been changed yet.").classes("faint")
            with ui.element("ol").classes("m-0 pl-8 list-decimal"):
                for step in review.steps:
                    with ui.element("li"):
                        ui.label(step.what)
            with ui.row().classes("w-full items-center gap-3"):
                undo = button("Undo the last", lambda: self._do(review.undo))
                undo.enabled = bool(review.steps)
                self._measure_button = button("Measure the accuracy", self._measure)
            self._waiting = ui.label().props('role="status"')
            self._draw_measured()
            with ui.row().classes("w-full items-center gap-3"):
                _text("Your name", self._by, "grow").on_value_change(self._named)
                save = button("Save", lambda: self._do(self._save))
                save.enabled = bool(review.steps)
            ui.label("The file says who has changed it, when and what.").classes("faint")

    def _named(self, event: events.ValueChangeEventArguments[str | None]) -> None:
        self._by = event.value or ""

    def _draw_measured(self) -> None:
        measured = self._review.measured
        if measured is None:
            return
        figures = {"On disk": measured.before}
        if self._review.steps:
            figures["With these changes"] = measured.after
        for name, found in figures.items():
            ui.label(f"{name}: {_interval(found.accuracy)}").classes("numbers")
        ui.label(
            "A preview: how often a small classifier, learnt in seconds, gives a session that it has not"
            f" learnt from its label; {measured.after.sessions:,} sessions of {measured.after.visitors:,}"
            " visitors, 95 % intervals over visitors. The bundle's own comes of streamer model distill."
            " Fewer and larger intents are easier, so a higher figure alone is no better taxonomy."
        ).classes("faint")

    def _draw_confusions(self) -> None:
        self._confusions.clear()
        with self._confusions:
            ui.html("<h2>Taken for each other</h2>", sanitize=False)
            measured = self._review.measured
            if measured is None:
                ui.label("Measure the accuracy to see which intents the classifier confuses.").classes(
                    "faint"
                )
                return
            if not measured.after.confusions:
                ui.label("None, in the sessions that it was measured on.").classes("faint")
            for each in measured.after.confusions[:_CONFUSIONS_SHOWN]:
                self._draw_confusion(each)

    def _draw_confusion(self, found: Confusion) -> None:
        labels = {each.id: each.label for each in self._review.draft.taxonomy.intents}
        with ui.row().classes("w-full items-baseline gap-2"):
            for at, id_ in enumerate(found.intents):
                if at:
                    ui.label("and")
                button(labels[id_], partial(self._choose, id_), is_flat=True)
            times = "1 session" if found.times == 1 else f"{found.times:,} sessions"
            ui.label(f"{times}, {percent(found.share)} of both").classes("faint numbers")

    def _do(self, change: Callable[[], str | None]) -> None:
        """What it returns is told, and so is why it is refused; the keyboard goes on at what is chosen."""
        try:
            self._tell(change() or "")
        except RefusedEditError as error:
            self._tell(f"This can't be done: {error}.")
            return
        except ChangedOnDiskError:
            self._tell(_CHANGED, can_load=True)
            return
        self.draw()
        self._client.run_javascript("document.getElementById('chosen')?.focus()")

    def _tell(self, text: str, *, can_load: bool = False) -> None:
        self._told.text = text
        self._told.classes(replace="notice w-full" if text else "")
        self._load.visible = can_load

    def _save(self) -> str:
        written = self._review.save(self._by)
        return (
            f"Saved as version {written.version}. The next step: streamer model distill --work"
            f" {self._review.folder.path}"
        )

    async def _split(self, whole: str) -> None:
        try:
            parts = await self._review.split(whole)
        except RefusedEditError as error:
            self._tell(f"This can't be done: {error}.")
            return

        def choose() -> None:
            self._chosen = parts[0]

        self._do(choose)

    async def _measure(self) -> None:
        self._measure_button.disable()
        self._waiting.text = "Learning the labels, which takes some seconds …"
        try:
            await self._review.measure()
        finally:
            self._measure_button.enable()
            self._waiting.text = ""
        self.draw()


def _interval(found: Estimate) -> str:
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def _lines(session: Session, show_queries: bool) -> list[str]:
    """A line for each of the first clicks, without times."""
    return ["  ".join(words_of(shown_click(click, show_queries))) for click in session.clicks[:_CLICKS_SHOWN]]


def _text(label: str, value: str, css: str) -> ui.input:
    field = ui.input(label, value=value).props(f"dense outlined maxlength={MAX_CHARACTERS}")
    return field.classes(f"min-w-0 {css}")


def _select(label: str, options: dict[str, str]) -> ui.select:
    return ui.select(options, label=label).props("dense outlined options-dense").classes("w-56")
