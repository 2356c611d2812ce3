"""The teacher whose intents are clusters of the embedding, so that everything runs on a laptop.

It sees embeddings and, for the names, what sessions show; a simulator's latent intents never reach it. A
login is no intent, so it is projected out of the embeddings. By default the names are words (`keyless`),
without a language model or an account; a language model can give names too, and say which clusters are one
intent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from streamer.models.arrays import Float32, Int64
from streamer.models.labelling import naming
from streamer.models.labelling.clusters import ClusterNamer, Clusters, Names, WordNamer
from streamer.models.labelling.teacher import Estimate, SoftLabels, TeacherInput, TeacherOutput
from streamer.models.sphere import Sphere
from streamer.models.taxonomy import FORMAT, Intent, Parent, Taxonomy, carried_over, successors
from streamer.models.training import clustering
from streamer.models.training.clustering import fit_mixture
from streamer.models.training.config import TrainConfig


@dataclass(frozen=True)
class _Clustered:
    sphere: Sphere
    sample: Float32
    centres: Float32
    clusters: Clusters
    found: int
    """Clusters before the rare and the alike among them were dropped."""
    recurrence: float


@dataclass(frozen=True)
class ClusterTeacher:
    config: TrainConfig
    seed: int
    namer: ClusterNamer = field(default_factory=WordNamer)

    @property
    def name(self) -> str:
        return self.namer.name

    def estimate(self, train: TeacherInput, _validation: TeacherInput) -> Estimate:
        return self.namer.estimate(self._clustered(train).clusters)

    def teach(
        self, train: TeacherInput, validation: TeacherInput, previous: Taxonomy | None
    ) -> TeacherOutput:
        made = self._clustered(train)
        names = self.namer.names(made.clusters)
        taxonomy = self._taxonomy(names)
        if previous is not None:
            taxonomy = carried_over(taxonomy, previous, successors(taxonomy, previous))
        mixture = fit_mixture(made.sample, made.centres)

        def soft(embeddings: Float32) -> SoftLabels:
            of_clusters = mixture.responsibilities(made.sphere.project(embeddings))
            of_intents = np.zeros((len(embeddings), len(names.labels)), np.float32)
            np.add.at(of_intents.T, names.intent_of, of_clusters.T)
            return SoftLabels(np.arange(len(embeddings)), of_intents)

        notes: dict[str, float | int | str] = {
            "clusters": made.found,
            "recurrence": round(made.recurrence, 3),
            "concentration": round(mixture.concentration, 3),
            "background": round(mixture.background, 4),
            "sessions": len(made.sample),
            **names.notes,
        }
        return TeacherOutput(
            taxonomy, soft(train.embeddings), soft(validation.embeddings), notes, names.failures
        )

    def _clustered(self, train: TeacherInput) -> _Clustered:
        """The largest cluster first."""
        rng = np.random.default_rng(self.seed)
        logged_in = np.array([session.user_id is not None for session in train.sessions])
        sphere = Sphere.of(train.embeddings, logged_in)
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
        clusters = Clusters(train.sessions, labels, parents, self.config.min_term_visitors)
        return _Clustered(
            sphere, sample, centres, clusters, len(found.centres), float(found.recurrence.mean())
        )

    def _clear_sample(self, train: TeacherInput, rng: np.random.Generator) -> Int64:
        """Sessions long enough to be clear; all of them if too few are."""
        long = np.array([len(s.clicks) >= self.config.clear_clicks for s in train.sessions])
        rows = np.flatnonzero(long) if long.mean() > 0.1 else np.arange(len(long))
        return np.sort(rng.permutation(rows)[: self.config.taxonomy_sample])

    def _taxonomy(self, names: Names) -> Taxonomy:
        taken: set[str] = set()
        parent_ids = naming.slugs(names.parent_labels, taken)
        intent_ids = naming.slugs(names.labels, taken)
        return Taxonomy(
            format=FORMAT,
            version="1",
            teacher=self.name,
            parents=tuple(
                Parent(id=i, label=label) for i, label in zip(parent_ids, names.parent_labels, strict=True)
            ),
            intents=tuple(
                Intent(
                    id=intent_ids[k],
                    label=names.labels[k],
                    parent=parent_ids[names.parents[k]],
                    description=names.descriptions[k],
                    terms=tuple(names.terms[k]),
                )
                for k in range(len(intent_ids))
            ),
        )
