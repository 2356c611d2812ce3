"""The keyless teacher: intents are clusters of the embedding, so that everything runs on a laptop.

It needs no language model and no account. It sees embeddings and, for the names, what sessions show; a
simulator's latent intents never reach it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import Float32, Int64
from models.labelling import naming
from models.labelling.teacher import SoftLabels, TeacherInput, TeacherOutput
from models.taxonomy import FORMAT, Intent, Parent, Taxonomy, carried_over, successors
from models.training import clustering
from models.training.clustering import fit_mixture
from models.training.config import TrainConfig


@dataclass(frozen=True)
class KeylessTeacher:
    config: TrainConfig
    seed: int

    @property
    def name(self) -> str:
        return "keyless"

    def teach(
        self, train: TeacherInput, validation: TeacherInput, previous: Taxonomy | None
    ) -> TeacherOutput:
        rng = np.random.default_rng(self.seed)
        sphere = clustering.Sphere.of(train.embeddings)
        points = sphere.project(train.embeddings)
        sample = points[self._clear_sample(train, rng)]
        found = clustering.stable_clustering(
            sample, self.config.max_intents, self.config.recurring_share, self.config.halves, rng
        )
        centres = clustering.pruned(sample, found, self.config.near_duplicate, self.config.min_share)
        labels = clustering.nearest(points, centres)
        order = np.argsort(-np.bincount(labels, minlength=len(centres)), kind="stable")
        centres, labels = centres[order], np.argsort(order)[labels]
        parents = clustering.parents_of(sample, centres)
        taxonomy = self._named(train, labels, parents)
        if previous is not None:
            taxonomy = carried_over(taxonomy, previous, successors(taxonomy, previous))
        mixture = fit_mixture(sample, centres)

        def soft(embeddings: Float32) -> SoftLabels:
            return SoftLabels(
                np.arange(len(embeddings)), mixture.responsibilities(sphere.project(embeddings))
            )

        notes: dict[str, float | int | str] = {
            "clusters": len(found.centres),
            "recurrence": round(float(found.recurrence.mean()), 3),
            "concentration": round(mixture.concentration, 3),
            "background": round(mixture.background, 4),
            "sessions": len(sample),
        }
        return TeacherOutput(taxonomy, soft(train.embeddings), soft(validation.embeddings), notes)

    def _clear_sample(self, train: TeacherInput, rng: np.random.Generator) -> Int64:
        """Sessions long enough to be clear; all of them if too few are."""
        long = np.array([len(s.clicks) >= self.config.clear_clicks for s in train.sessions])
        rows = np.flatnonzero(long) if long.mean() > 0.1 else np.arange(len(long))
        return np.sort(rng.permutation(rows)[: self.config.taxonomy_sample])

    def _named(self, train: TeacherInput, labels: Int64, parents: Int64) -> Taxonomy:
        visitors = self.config.min_term_visitors
        terms = naming.distinctive_terms(train.sessions, labels, len(parents), visitors)
        number = int(parents.max()) + 1
        parent_terms = naming.distinctive_terms(train.sessions, parents[labels], number, visitors)
        taken: set[str] = set()
        parent_labels = naming.labels_from(parent_terms, words=1)
        parent_ids = naming.slugs(parent_labels, taken)
        intent_labels = naming.labels_from(terms, words=2)
        intent_ids = naming.slugs(intent_labels, taken)
        return Taxonomy(
            format=FORMAT,
            version="1",
            teacher=self.name,
            parents=tuple(
                Parent(id=i, label=label) for i, label in zip(parent_ids, parent_labels, strict=True)
            ),
            intents=tuple(
                Intent(
                    id=intent_ids[c],
                    label=intent_labels[c],
                    parent=parent_ids[parents[c]],
                    description=f"Sessions marked by: {', '.join(terms[c])}." if terms[c] else "",
                    terms=tuple(terms[c]),
                )
                for c in range(len(parents))
            ),
        )
