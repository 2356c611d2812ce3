"""The language model as a Teacher: sample, summarize, draft, drop the rare, group, label, audit.

It sees renderings of sessions and nothing else. Given a taxonomy that people edited, it labels with that
one as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.llm.asking import Asker, answered
from models.llm.assigning import Choices, soft_label, votes
from models.llm.audit import audit, write_report
from models.llm.config import LlmConfig
from models.llm.drafting import Draft, DraftIntent, drafted, grouped, scrubbed, summarized
from models.llm.errors import LlmError
from models.llm.rendering import Scrub, rendering
from models.llm.sampling import stratified
from models.llm.vote import OTHER, Vote
from models.taxonomy import FORMAT, Intent, Parent, Taxonomy, carried_over
from models.training import naming
from models.training.successors import successors
from models.training.teacher import Lesson, SoftLabels, Taught
from schemas.click import Session

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LlmTeacher:
    config: LlmConfig
    asker: Asker
    scrub: Scrub
    folder: Path
    """Where the audit report goes."""
    seed: int
    min_term_visitors: int = 10
    second: Asker | None = None
    fixed: Taxonomy | None = None
    """Label with this taxonomy; make none."""

    @property
    def name(self) -> str:
        return f"llm:{self.config.model}"

    def teach(self, train: Lesson, validation: Lesson, previous: Taxonomy | None) -> Taught:
        """Raises LlmError."""
        rng = np.random.default_rng(self.seed)
        if self.fixed and OTHER in {intent.id for intent in self.fixed.intents}:
            raise LlmError(f"the taxonomy has an intent with the id {OTHER!r}, which says that none fits")
        fixed = self.fixed and msgspec.structs.replace(self.fixed, teacher=self.name)
        made = fixed or self._made(train, previous, rng)
        train_rows = stratified(train.embeddings, self.config.sessions_labelled, rng)
        most = max(1, self.config.sessions_labelled // 4)
        validation_rows = rng.permutation(len(validation.sessions))[:most]
        choices = _choices(made)
        learnt, cast = self._labels(train, train_rows, choices)
        held_out, _ = self._labels(validation, validation_rows, choices)
        taxonomy = made if self.fixed else self._with_terms(made, train, learnt, previous)
        seconded = self._seconded(train, train_rows, choices)
        renderings = self._rendered([train.sessions[row] for row in train_rows])
        notes = self._audited(
            taxonomy, _renamed(cast, made, taxonomy), _renamed(seconded, made, taxonomy), renderings
        )
        return Taught(taxonomy, learnt, held_out, notes)

    def _made(self, train: Lesson, previous: Taxonomy | None, rng: np.random.Generator) -> Taxonomy:
        rows = stratified(train.embeddings, self.config.sessions_summarized, rng)
        start = Draft([DraftIntent(i.label, i.description) for i in previous.intents] if previous else [])
        draft = scrubbed(drafted(self.asker, self._summaries(train, rows), start), self.scrub)
        pilot = stratified(train.embeddings, self.config.sessions_piloted, rng)
        return _taxonomy(self.name, self._frequent(draft, train, pilot), self.asker)

    def _summaries(self, train: Lesson, rows: Int64) -> list[str]:
        size = self.config.sessions_per_summary
        renderings = self._rendered([train.sessions[row] for row in rows])
        batches = [renderings[at : at + size] for at in range(0, len(renderings), size)]

        def summaries_of(batch: Sequence[str]) -> list[str]:
            ids = [f"s{i + 1}" for i in range(len(batch))]
            return answered(lambda: summarized(self.asker, batch, ids)) or []

        found = [each for batch in self.asker.map(summaries_of, batches) for each in batch]
        if not found:
            raise LlmError(
                f"{self.name} summarized none of {len(rows)} sessions in a usable form;"
                " expected the JSON that was asked for"
            )
        return found

    def _frequent(self, draft: Draft, train: Lesson, rows: Int64) -> Draft:
        """Without intents that hardly any session of a sample shows."""
        choices = Choices({f"i{k}": _described(i.label, i.description) for k, i in enumerate(draft.intents)})
        cast = votes(self.asker, choices, self._rendered([train.sessions[row] for row in rows]), 1)
        counts = Counter(intent for each in cast for vote in each for intent in vote)
        least = max(1.0, self.config.min_share * len(rows))
        kept = [intent for k, intent in enumerate(draft.intents) if counts[f"i{k}"] >= least]
        if not kept:
            raise LlmError(f"{self.name} found an intent of its own list in none of {len(rows)} sessions")
        return Draft(kept)

    def _labels(self, lesson: Lesson, rows: Int64, choices: Choices) -> tuple[SoftLabels, list[list[Vote]]]:
        cast = votes(
            self.asker, choices, self._rendered([lesson.sessions[row] for row in rows]), self.config.votes
        )
        labels = [
            (row, soft_label(each, list(choices.described))) for row, each in zip(rows, cast, strict=True)
        ]
        usable = [(row, label) for row, label in labels if label is not None]
        if not usable:
            raise LlmError(f"{self.name} labelled none of {len(rows)} sessions with an intent")
        return SoftLabels(
            np.array([row for row, _ in usable], np.int64), np.stack([label for _, label in usable])
        ), cast

    def _seconded(self, train: Lesson, rows: Int64, choices: Choices) -> list[list[Vote]]:
        if self.second is None:
            return []
        some = rows[: self.config.sessions_seconded]
        return votes(self.second, choices, self._rendered([train.sessions[row] for row in some]), 1)

    def _with_terms(
        self, made: Taxonomy, train: Lesson, learnt: SoftLabels, previous: Taxonomy | None
    ) -> Taxonomy:
        """With what marks each intent's sessions, and with the ids of the previous version's intents."""
        sessions = [train.sessions[row] for row in learnt.rows]
        terms = naming.telling_terms(
            sessions, learnt.probabilities.argmax(1), len(made.intents), self.min_term_visitors
        )
        intents = tuple(
            msgspec.structs.replace(intent, terms=tuple(found))
            for intent, found in zip(made.intents, terms, strict=True)
        )
        taxonomy = msgspec.structs.replace(made, intents=intents)
        return carried_over(taxonomy, previous, successors(taxonomy, previous)) if previous else taxonomy

    def _rendered(self, sessions: Sequence[Session]) -> list[str]:
        return [rendering(session, self.scrub) for session in sessions]

    def _audited(
        self,
        taxonomy: Taxonomy,
        cast: Sequence[Sequence[Vote]],
        seconded: Sequence[Sequence[Vote]],
        renderings: Sequence[str],
    ) -> dict[str, float | int | str]:
        about = {"teacher": self.name, "taxonomy_version": taxonomy.version}
        report: dict[str, Any] = {**about, **audit(taxonomy, renderings, cast, seconded), **self._cost()}
        write_report(report, self.folder)
        notes: dict[str, float | int | str] = {
            "sessions": report["sessions"],
            "votes": self.config.votes,
            "share_of_other": report["share_of_other"],
            "without_usable_vote": report["without_usable_vote"],
            "taxonomy_from": "file" if self.fixed else "model",
            **self._cost(),
        }
        for name in ("test_retest", "two_models"):
            notes |= {f"{name}_{key}": value for key, value in report[name].items() if value is not None}
        return notes

    def _cost(self) -> dict[str, int]:
        budget = self.asker.budget
        return {"requests": budget.requests, "tokens": budget.tokens, "asked_again": self.asker.unusable}


def _taxonomy(teacher: str, draft: Draft, asker: Asker) -> Taxonomy:
    grouping = grouped(asker, draft)
    taken = {OTHER}
    parent_ids = naming.slugs([parent.label for parent in grouping.parents], taken)
    intent_ids = naming.slugs([intent.label for intent in draft.intents], taken)
    parent_of = {
        label: id_
        for parent, id_ in zip(grouping.parents, parent_ids, strict=True)
        for label in parent.intents
    }
    return Taxonomy(
        format=FORMAT,
        version="1",
        teacher=teacher,
        parents=tuple(
            Parent(id=id_, label=parent.label)
            for parent, id_ in zip(grouping.parents, parent_ids, strict=True)
            if parent.intents
        ),
        intents=tuple(
            Intent(id=id_, label=i.label, parent=parent_of[i.label], description=i.description)
            for i, id_ in zip(draft.intents, intent_ids, strict=True)
        ),
    )


def _choices(taxonomy: Taxonomy) -> Choices:
    return Choices({i.id: _described(i.label, i.description) for i in taxonomy.intents})


def _described(label: str, description: str) -> str:
    return f"{label}. {description}".translate(str.maketrans("<>\n", "‹› "))


def _renamed(cast: Sequence[Sequence[Vote]], old: Taxonomy, new: Taxonomy) -> list[list[Vote]]:
    """Votes with the ids that the intents, in the same order, have in another version."""
    ids = {a.id: b.id for a, b in zip(old.intents, new.intents, strict=True)} | {OTHER: OTHER}
    return [[tuple(ids[intent] for intent in vote) for vote in each] for each in cast]
