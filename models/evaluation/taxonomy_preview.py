"""What an edited taxonomy would do: shares of its labels, and how well a small classifier learns them.

The classifier is distilled as for a bundle, on the same split by visitor, but on at most MOST_TRAINED
sessions and without the part that tells what is novel, so that it takes seconds. Its figures are a preview:
those of the bundle come of the step `distill`. M labelled sessions, D the width of an embedding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from streamer.models.arrays import Float32, Int64
from streamer.models.evaluation.bootstrap import Estimate, cluster_numbers, resample
from streamer.models.evaluation.metrics import share_of
from streamer.models.labelling.naming import distinctive_terms, labels_from
from streamer.models.labelling.taxonomy_edits import RefusedEditError, intent_of, split
from streamer.models.labelling.teacher import SoftLabels
from streamer.models.sphere import Sphere
from streamer.models.taxonomy import Taxonomy
from streamer.models.training.clustering import fit_k_means
from streamer.models.training.config import TrainConfig
from streamer.models.training.distill import LabelledEmbeddings, distill, outputs
from streamer.models.training.pipeline import TrainingPipeline
from streamer.models.training.pretrain import deterministic
from streamer.models.training.relabel import Division, EditError, GivenLabels
from streamer.schemas.click import Session

MOST_TRAINED = 10_000
MOST_TESTED = 4_000
FEWEST_TO_SPLIT = 20
"""Sessions of the training split."""
_FITTED_ON = 10_000
_NAMED_BY = 2
"""Words of a part's first label."""


class Draft(NamedTuple):
    """A taxonomy as it is being edited, and the intents that were split for it."""

    taxonomy: Taxonomy
    divisions: tuple[Division, ...]


class LabelledSplit(NamedTuple):
    """The labelled sessions of a split [M], in the order of their labels, and their embeddings [M, D]."""

    sessions: Sequence[Session]
    embeddings: Float32


class Shares(NamedTuple):
    """Labelled sessions of both splits by their strongest intent."""

    counts: dict[str, int]
    """By id of each intent."""
    left_out: int
    """Those that only have intents that are retired."""


class Confusion(NamedTuple):
    """Held-out sessions of one of two intents that the classifier takes for the other."""

    intents: tuple[str, str]
    times: int
    share: float
    """Of the sessions of both."""


class Preview(NamedTuple):
    """Of a classifier, on held-out sessions."""

    accuracy: Estimate
    """Against the labels; the interval is by a bootstrap over visitors."""
    sessions: int
    visitors: int
    confusions: list[Confusion]
    """The most frequent first."""


@dataclass(frozen=True)
class LabelledSessions:
    """All that the teacher has labelled."""

    given: GivenLabels
    train: LabelledSplit
    validation: LabelledSplit
    config: TrainConfig

    @classmethod
    def of(cls, pipeline: TrainingPipeline) -> LabelledSessions:
        """After the step `taxonomy`. Raises TrainingError."""
        given = pipeline.folder.given_labels()
        sessions = (pipeline.sessions["train"], pipeline.sessions["validation"])
        return cls.of_splits(given, sessions, pipeline.embed, pipeline.config)

    @classmethod
    def of_splits(
        cls,
        given: GivenLabels,
        sessions: tuple[Sequence[Session], Sequence[Session]],
        embed: Callable[[Sequence[Session]], Float32],
        config: TrainConfig,
    ) -> LabelledSessions:
        """From all sessions of both splits; `embed` gives [M, D]."""
        labels = (given.train, given.validation)
        kept = [[of[row] for row in each.rows] for of, each in zip(sessions, labels, strict=True)]
        again = [SoftLabels(np.arange(len(each.rows)), each.probabilities) for each in labels]
        train, validation = (LabelledSplit(some, embed(some)) for some in kept)
        return cls(GivenLabels(given.ids, given.version, *again), train, validation, config)

    def shares(self, draft: Draft) -> Shares:
        """Raises RefusedEditError if no labelled session has any of the intents."""
        labels = self._labels(draft)
        best = np.concatenate([each.probabilities.argmax(1) for each in labels])
        counts = np.bincount(best, minlength=len(draft.taxonomy.intents)).tolist()
        every = len(self.train.sessions) + len(self.validation.sessions)
        ids = [intent.id for intent in draft.taxonomy.intents]
        return Shares(dict(zip(ids, counts, strict=True)), every - len(best))

    def examples(self, draft: Draft, intent: str, most: int) -> list[Session]:
        """Sessions of the training split whose strongest label it is; those that are surest of it first."""
        train, _ = self._labels(draft)
        rows, chances = _of_intent(train, _column(draft.taxonomy, intent))
        order = np.argsort(-chances, kind="stable")[:most]
        return [self.train.sessions[row] for row in rows[order]]

    def preview(self, draft: Draft) -> Preview:
        """Distils and measures; the same draft gives the same figures. Raises RefusedEditError."""
        rng = np.random.default_rng(self.config.seed)
        train, validation = self._labels(draft)
        train, tested = _some(train, MOST_TRAINED, rng), _some(validation, MOST_TESTED, rng)
        held_out = LabelledEmbeddings(self.validation.embeddings, tested)
        generator = torch.Generator().manual_seed(self.config.seed)
        with deterministic(self.config.threads):
            student = distill(
                LabelledEmbeddings(self.train.embeddings, train), held_out, self.config, generator
            )
            logits, _ = outputs(student.head, self.validation.embeddings[tested.rows])
        said, best = tested.probabilities.argmax(1), student.calibration.probabilities(logits).argmax(1)
        visitors = cluster_numbers([self.validation.sessions[row].visitor_id for row in tested.rows])
        hits = np.stack([said == best, np.ones(len(said))], axis=1).astype(np.float64)
        accuracy = resample({"accuracy": share_of(hits)}, visitors, rng)["accuracy"].estimate()
        return Preview(accuracy, len(said), int(visitors.max()) + 1, _confusions(draft.taxonomy, said, best))

    def split(self, draft: Draft, whole: str) -> Draft:
        """The intent in two, by the two clusters into which its sessions' embeddings fall best.

        The larger is the first. Raises RefusedEditError.
        """
        label = intent_of(draft.taxonomy, whole).label
        train, _ = self._labels(draft)
        rows, _ = _of_intent(train, _column(draft.taxonomy, whole))
        if len(rows) < FEWEST_TO_SPLIT:
            raise RefusedEditError(
                f"{label!r} has {len(rows)} sessions to learn from, expected {FEWEST_TO_SPLIT} to split it"
            )
        rng = np.random.default_rng(self.config.seed)
        sphere = Sphere.of(self.train.embeddings)
        points = sphere.project(self.train.embeddings[rows])
        clusters = fit_k_means(rng.permutation(points)[:_FITTED_ON], 2, rng, starts=3)
        sizes = np.bincount(clusters.predict(points), minlength=2)
        if not sizes.all():
            raise RefusedEditError(f"the sessions of {label!r} are all alike: there is nothing to split")
        first = int(sizes.argmax())
        which = [
            (clusters.predict(sphere.project(each.embeddings)) != first).astype(np.int64)
            for each in (self.train, self.validation)
        ]
        sessions = [self.train.sessions[row] for row in rows]
        terms = distinctive_terms(sessions, which[0][rows], 2, self.config.min_term_visitors)
        one, two = labels_from(terms, _NAMED_BY)
        taxonomy, parts = split(draft.taxonomy, whole, (one, two), terms)
        return Draft(taxonomy, (*draft.divisions, Division(whole, parts, *which)))

    def _labels(self, draft: Draft) -> tuple[SoftLabels, SoftLabels]:
        # A draft gets its version when it is saved.
        unversioned = self.given._replace(version="")
        try:
            return unversioned.over(draft.taxonomy, draft.divisions)
        except EditError as error:
            raise RefusedEditError(str(error)) from None


def _column(taxonomy: Taxonomy, intent: str) -> int:
    return taxonomy.intents.index(intent_of(taxonomy, intent))


def _of_intent(labels: SoftLabels, column: int) -> tuple[Int64, Float32]:
    """Rows of the sessions whose strongest label it is, and how strong it is."""
    strongest = labels.probabilities.argmax(1) == column
    return labels.rows[strongest], labels.probabilities[strongest, column]


def _some(labels: SoftLabels, most: int, rng: np.random.Generator) -> SoftLabels:
    chosen = np.sort(rng.permutation(len(labels.rows))[:most])
    return SoftLabels(labels.rows[chosen], labels.probabilities[chosen])


def _confusions(taxonomy: Taxonomy, said: Int64, best: Int64) -> list[Confusion]:
    ids = [intent.id for intent in taxonomy.intents]
    sizes = np.bincount(said, minlength=len(ids))
    pairs = Counter(
        (min(a, b), max(a, b)) for a, b in zip(said.tolist(), best.tolist(), strict=True) if a != b
    )
    ranked = sorted(pairs.items(), key=lambda each: (-each[1], each[0]))
    return [
        Confusion((ids[a], ids[b]), times, times / max(1, int(sizes[a] + sizes[b])))
        for (a, b), times in ranked
    ]
