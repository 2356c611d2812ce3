"""The language model as a teacher: sample, summarize, draft, drop the rare, group, label, audit.

It sees renderings of sessions and nothing else. Given a taxonomy that people edited, it labels with that one
as it is.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from streamer.models.arrays import Float32, Int64
from streamer.models.labelling import naming
from streamer.models.labelling.audit import audit, write_report
from streamer.models.labelling.gate import DEFAULT_BOUNDS, Bounds, failures, labels_with_ids
from streamer.models.labelling.rendering import Scrub, rendering
from streamer.models.labelling.teacher import OTHER, Estimate, SoftLabels, TeacherInput, TeacherOutput, Vote
from streamer.models.llm.asking import Asker, answered
from streamer.models.llm.assigning import Evidence, IntentChoices, soft_label, votes
from streamer.models.llm.causes import most_often
from streamer.models.llm.config import LlmConfig
from streamer.models.llm.drafting import (
    Draft,
    DraftIntent,
    drafted,
    grouped,
    scrubbed,
    summarized,
    summary_question,
)
from streamer.models.llm.errors import LlmError, UnansweredError
from streamer.models.llm.estimate import estimated
from streamer.models.taxonomy import FORMAT, Intent, Parent, Taxonomy, carried_over, entries, successors
from streamer.schemas.click import Session

_PER_STRATUM = 8
_MOST_STRATA = 48
_FITTED_ON = 10_000
_RENDERED_TO_ESTIMATE = 200


def strata(embeddings: Float32, size: int, rng: np.random.Generator) -> Int64:
    """[N]: the stratum of each session, for a sample of `size`."""
    count = max(1, min(_MOST_STRATA, size // _PER_STRATUM, len(embeddings)))
    seen = rng.permutation(len(embeddings))[:_FITTED_ON]
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # Sessions that are all alike have fewer distinct points than clusters.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = KMeans(count, n_init=1, random_state=int(rng.integers(2**31))).fit(embeddings[seen])
        return np.asarray(model.predict(embeddings), np.int64)


def stratified(embeddings: Float32, size: int, rng: np.random.Generator) -> Int64:
    """Rows of at most `size` sessions, in random order; all of them if there are no more."""
    if len(embeddings) <= size:
        return np.asarray(rng.permutation(len(embeddings)), np.int64)
    found = strata(embeddings, size, rng)
    members = [rng.permutation(np.flatnonzero(found == s)) for s in np.unique(found)]
    places = _places([len(rows) for rows in members], size)
    chosen = np.concatenate([rows[:n] for rows, n in zip(members, places, strict=True)])
    return np.asarray(rng.permutation(chosen), np.int64)


def _places(sizes: list[int], wanted: int) -> list[int]:
    """How many of each stratum: in proportion to the root of its size, never more than it has."""
    places = [0] * len(sizes)
    while (left := wanted - sum(places)) > 0 and any(p < s for p, s in zip(places, sizes, strict=True)):
        open_roots = [s**0.5 * (p < s) for p, s in zip(places, sizes, strict=True)]
        for i in sorted(range(len(sizes)), key=lambda i: -open_roots[i]):
            share = max(1, round(left * open_roots[i] / sum(open_roots))) if open_roots[i] else 0
            places[i] += min(share, sizes[i] - places[i], wanted - sum(places))
    return places


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
    """If given, label with this taxonomy instead of making one."""
    bounds: Bounds = DEFAULT_BOUNDS

    @property
    def name(self) -> str:
        return f"llm:{self.config.model}"

    def estimate(self, train: TeacherInput, validation: TeacherInput) -> Estimate:
        """What teaching will cost; asks nothing."""
        rng = np.random.default_rng(self.seed)
        seen = rng.permutation(len(train.sessions))[:_RENDERED_TO_ESTIMATE]
        return estimated(
            self.config,
            self._rendered([train.sessions[row] for row in seen]),
            len(train.sessions),
            len(validation.sessions),
            makes_taxonomy=self.fixed is None,
            has_second=self.second is not None,
        )

    def teach(
        self, train: TeacherInput, validation: TeacherInput, previous: Taxonomy | None
    ) -> TeacherOutput:
        """Raises LlmError."""
        rng = np.random.default_rng(self.seed)
        self.asker.expected = self.estimate(train, validation).requests
        evidence = Evidence()
        if self.fixed and OTHER in {intent.id for intent in self.fixed.intents}:
            raise LlmError(f"the taxonomy has an intent with the id {OTHER!r}, which says that none fits")
        fixed = self.fixed and msgspec.structs.replace(self.fixed, teacher=self.name)
        made = fixed or self._made(train, previous, rng)
        train_rows = stratified(train.embeddings, self.config.sessions_labelled, rng)
        most = max(1, self.config.sessions_labelled // 4)
        validation_rows = rng.permutation(len(validation.sessions))[:most]
        choices = _choices(made)
        learnt, cast = self._labels(train, train_rows, choices, evidence)
        held_out, _ = self._labels(validation, validation_rows, choices, evidence)
        taxonomy = made if self.fixed else self._with_terms(made, train, learnt, previous)
        seconded = self._seconded(train, train_rows, choices)
        renderings = self._rendered([train.sessions[row] for row in train_rows])
        report = audit(
            taxonomy,
            renderings,
            _renamed(cast, made, taxonomy),
            _renamed(seconded, made, taxonomy),
            evidence.precision,
        )
        labels = [] if self.fixed else [entry.label for entry in entries(taxonomy)]
        poor = failures(
            report["test_retest"]["kappa"],
            evidence.precision,
            report["share_without_vote"],
            labels_with_ids(labels, train.sessions),
            self.bounds,
        )
        return TeacherOutput(taxonomy, learnt, held_out, self._noted(taxonomy, report), tuple(poor))

    def _made(self, train: TeacherInput, previous: Taxonomy | None, rng: np.random.Generator) -> Taxonomy:
        rows = stratified(train.embeddings, self.config.sessions_summarized, rng)
        start = Draft([DraftIntent(i.label, i.description) for i in previous.intents] if previous else [])
        summaries = self._summaries(train, rows)
        try:
            draft = scrubbed(drafted(self.asker, summaries, start), self.scrub)
        except UnansweredError:
            raise LlmError(f"{self.name} drafted no list of intents in a usable form{self._why()}") from None
        pilot = stratified(train.embeddings, self.config.sessions_piloted, rng)
        return _taxonomy(self.name, self._frequent(draft, train, pilot), self.asker)

    def _summaries(self, train: TeacherInput, rows: Int64) -> list[str]:
        size = self.config.sessions_per_summary
        renderings = self._rendered([train.sessions[row] for row in rows])
        asked = [summary_question(renderings[at : at + size]) for at in range(0, len(renderings), size)]
        self.asker.prefetch(asked)
        answers = self.asker.map(lambda each: answered(lambda: self.asker.ask(*each)), asked)
        found = [each for answer in answers if answer for each in summarized(answer)]
        if not found:
            raise LlmError(
                f"{self.name} summarized none of {len(rows)} sessions in a usable form{self._why()}"
            )
        return found

    def _frequent(self, draft: Draft, train: TeacherInput, rows: Int64) -> Draft:
        """Without intents that too few sessions of a sample show."""
        choices = IntentChoices(
            {f"i{k}": _described(i.label, i.description) for k, i in enumerate(draft.intents)}
        )
        cast = votes(self.asker, choices, self._rendered([train.sessions[row] for row in rows]), 1)
        counts = Counter(intent for each in cast for vote in each for intent in vote)
        least = max(1.0, self.config.min_share * len(rows))
        kept = [intent for k, intent in enumerate(draft.intents) if counts[f"i{k}"] >= least]
        if not kept:
            raise LlmError(
                f"{self.name} found an intent of its own list in none of {len(rows)} sessions{self._why()}"
            )
        return Draft(kept)

    def _why(self) -> str:
        """What went wrong most often, if anything did."""
        found = most_often(self.asker.causes)
        return f": {found}" if found else ": all its votes are for `other`"

    def _labels(
        self, split_input: TeacherInput, rows: Int64, choices: IntentChoices, evidence: Evidence
    ) -> tuple[SoftLabels, list[list[Vote]]]:
        cast = votes(
            self.asker,
            choices,
            self._rendered([split_input.sessions[row] for row in rows]),
            self.config.votes,
            evidence,
        )
        labels = [
            (row, soft_label(each, list(choices.described))) for row, each in zip(rows, cast, strict=True)
        ]
        usable = [(row, label) for row, label in labels if label is not None]
        if not usable:
            raise LlmError(f"{self.name} labelled none of {len(rows)} sessions with an intent{self._why()}")
        return SoftLabels(
            np.array([row for row, _ in usable], np.int64), np.stack([label for _, label in usable])
        ), cast

    def _seconded(self, train: TeacherInput, rows: Int64, choices: IntentChoices) -> list[list[Vote]]:
        if self.second is None:
            return []
        some = rows[: self.config.sessions_seconded]
        return votes(self.second, choices, self._rendered([train.sessions[row] for row in some]), 1)

    def _with_terms(
        self, made: Taxonomy, train: TeacherInput, learnt: SoftLabels, previous: Taxonomy | None
    ) -> Taxonomy:
        """With the distinctive terms of each intent's sessions, and the ids of the previous version's
        intents."""
        sessions = [train.sessions[row] for row in learnt.rows]
        terms = naming.distinctive_terms(
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

    def _noted(self, taxonomy: Taxonomy, report: dict[str, Any]) -> dict[str, float | int | str]:
        """The main figures, for the manifest; the whole report goes to the folder."""
        about = {"teacher": self.name, "taxonomy_version": taxonomy.version}
        write_report({**about, **report, **self._cost()}, self.folder)
        notes: dict[str, float | int | str] = {
            "sessions": report["sessions"],
            "votes": self.config.votes,
            "share_of_other": report["share_of_other"],
            "without_usable_vote": report["without_usable_vote"],
            "taxonomy_from": "file" if self.fixed else "model",
            **self._cost(),
        }
        if report["evidence_precision"] is not None:
            notes["evidence_precision"] = report["evidence_precision"]
        for name in ("test_retest", "two_models"):
            notes |= {f"{name}_{key}": value for key, value in report[name].items() if value is not None}
        return notes

    def _cost(self) -> dict[str, int]:
        asker = self.asker
        asked_again = asker.causes.total()
        return {"requests": asker.answers, "tokens": asker.tokens, "asked_again": asked_again}


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


def _choices(taxonomy: Taxonomy) -> IntentChoices:
    return IntentChoices({i.id: _described(i.label, i.description) for i in taxonomy.intents})


def _described(label: str, description: str) -> str:
    return f"{label}. {description}".translate(str.maketrans("<>\n", "‹› "))


def _renamed(cast: Sequence[Sequence[Vote]], old: Taxonomy, new: Taxonomy) -> list[list[Vote]]:
    """Votes with the ids that the intents, in the same order, have in another version."""
    ids = {a.id: b.id for a, b in zip(old.intents, new.intents, strict=True)} | {OTHER: OTHER}
    return [[tuple(ids[intent] for intent in vote) for vote in each] for each in cast]
