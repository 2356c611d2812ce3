"""A taxonomy under review: what is on disk, what was changed since, and what that would do.

Everybody who looks at the page changes the same draft. Nothing is written before it is saved, and nothing is
saved over what somebody else has written meanwhile.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import NamedTuple

from msgspec.structs import replace

from streamer.models.evaluation.taxonomy_preview import Draft, LabelledSessions, Preview, Shares
from streamer.models.labelling import taxonomy_edits as edits
from streamer.models.labelling.taxonomy_edits import RefusedEditError
from streamer.models.taxonomy import Edit, Taxonomy, entries, next_version
from streamer.models.training.work_folder import WorkFolder
from streamer.schemas.click import Session

EXAMPLES = 4
_MOST_OF_A_NAME = 100


class ChangedOnDiskError(Exception):
    """Somebody else has written the taxonomy or its labels since they were read here."""


class Step(NamedTuple):
    """A change, and what the draft was before it."""

    what: str
    before: Draft


class Measured(NamedTuple):
    """The preview of the draft, and of what is on disk."""

    before: Preview
    after: Preview


class Review:
    """Of a work folder after the step `taxonomy`. Raises TrainingError, RefusedEditError."""

    def __init__(self, folder: WorkFolder, labelled: LabelledSessions, now: Callable[[], float]) -> None:
        """`now`: seconds since 1970."""
        self.folder = folder
        self.labelled = labelled
        self.version = 0
        """Another number: something has changed."""
        self._now = now
        self._busy = asyncio.Lock()
        self.load()

    def load(self) -> None:
        """What is on disk, without what was changed here."""
        self._digest = self.folder.labels_digest()
        taxonomy = self.folder.taxonomy()
        divisions = self.folder.divisions(self.folder.given_labels())
        self.saved = Draft(taxonomy, tuple(each for each in divisions if each.counts_in(taxonomy)))
        self._shares_before = self.labelled.shares(self.saved)
        self.steps: list[Step] = []
        self._measured_before: Preview | None = None
        self._changed(self.saved)

    def _changed(self, draft: Draft) -> None:
        self.shares = self.labelled.shares(draft)
        self.draft = draft
        self.measured: Measured | None = None
        self.version += 1

    def share_before(self, id_: str) -> float | None:
        """Of an intent or a group, on disk; None: it isn't there."""
        saved = self.saved.taxonomy
        if id_ not in {each.id for each in entries(saved)}:
            return None
        intents = [each.id for each in saved.intents if id_ in (each.id, each.parent)]
        return share_of(self._shares_before, intents)

    def name_of(self, id_: str) -> str:
        """Label and id."""
        label = next((e.label for e in entries(self.draft.taxonomy) if e.id == id_), None)
        return id_ if label is None else f"{label} ({id_})"

    def rename(self, id_: str, label: str, description: str | None) -> None:
        what = f"{self.name_of(id_)} renamed to {label.strip()}"
        changed = edits.rename(self.draft.taxonomy, id_, label, description)
        was = next(e for e in entries(self.draft.taxonomy) if e.id == id_)
        if any(e.id == id_ and e.label == was.label for e in entries(changed)):
            what = f"{self.name_of(id_)} described anew"
        self._take(what, changed)

    def move(self, id_: str, parent: str) -> None:
        self._take(
            f"{self.name_of(id_)} moved to {self.name_of(parent)}",
            edits.move(self.draft.taxonomy, id_, parent),
        )

    def move_to_new_parent(self, id_: str, label: str) -> None:
        self._take(
            f"{self.name_of(id_)} moved to the new group {label.strip()}",
            edits.move_to_new_parent(self.draft.taxonomy, id_, label),
        )

    def merge(self, gone: str, into: str) -> None:
        self._take(
            f"{self.name_of(gone)} merged into {self.name_of(into)}",
            edits.merge(self.draft.taxonomy, gone, into),
        )

    def retire(self, id_: str) -> None:
        self._take(f"{self.name_of(id_)} retired", edits.retire(self.draft.taxonomy, id_))

    async def split(self, whole: str) -> tuple[str, str]:
        """The ids of its parts."""
        async with self._busy:
            draft = self.draft
            divided = await asyncio.to_thread(self.labelled.split, draft, whole)
            if draft is not self.draft:
                raise RefusedEditError("somebody has changed the taxonomy meanwhile: try it once more")
            parts = divided.divisions[-1].parts
            labels = [intent.label for intent in divided.taxonomy.intents if intent.id in parts]
            self._step(f"{self.name_of(whole)} split into {' and '.join(labels)}", divided)
            return parts

    def undo(self) -> None:
        """The last change, if there is any."""
        if self.steps:
            self._changed(self.steps.pop().before)

    async def measure(self) -> None:
        """Fills `measured`, unless the draft is changed meanwhile."""
        async with self._busy:
            saved, draft = self.saved, self.draft
            if self._measured_before is None:
                self._measured_before = await asyncio.to_thread(self.labelled.preview, saved)
            before = after = self._measured_before
            if draft is not saved:
                after = await asyncio.to_thread(self.labelled.preview, draft)
            if draft is self.draft and saved is self.saved:
                self.measured = Measured(before, after)
                self.version += 1

    def save(self, by: str) -> Taxonomy:
        """Write the draft, with who made it and when. Raises ChangedOnDiskError, RefusedEditError."""
        by = " ".join(by.split())
        if not (0 < len(by) <= _MOST_OF_A_NAME and by.isprintable()):
            raise RefusedEditError(
                f"a name has {len(by)} characters, expected 1 to {_MOST_OF_A_NAME}, all printable: the file"
                " says who has changed it"
            )
        if not self.steps:
            raise RefusedEditError("nothing has been changed")
        if self.folder.labels_digest() != self._digest:
            raise ChangedOnDiskError
        taxonomy = self.draft.taxonomy
        at = dt.datetime.fromtimestamp(self._now(), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        edit = Edit(at, by, tuple(step.what for step in self.steps))
        has_others = _ids(taxonomy) != _ids(self.saved.taxonomy)
        version = next_version(taxonomy.version) if has_others else taxonomy.version
        written = replace(taxonomy, version=version, edits=(*taxonomy.edits, edit))
        self.folder.put_edited(written, self.draft.divisions)
        self.load()
        return written

    def examples(self, intent: str) -> list[Session]:
        return self.labelled.examples(self.draft, intent, EXAMPLES)

    def _take(self, what: str, taxonomy: Taxonomy) -> None:
        if taxonomy != self.draft.taxonomy:
            self._step(what, self.draft._replace(taxonomy=taxonomy))

    def _step(self, what: str, draft: Draft) -> None:
        before = self.draft
        self._changed(draft)
        self.steps.append(Step(what, before))


def _ids(taxonomy: Taxonomy) -> set[str]:
    return {intent.id for intent in taxonomy.intents}


def share_of(shares: Shares, intents: list[str]) -> float:
    """Of all labelled sessions."""
    every = sum(shares.counts.values()) + shares.left_out
    return sum(shares.counts.get(each, 0) for each in intents) / max(1, every)
