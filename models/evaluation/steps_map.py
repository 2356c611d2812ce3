"""The map of the embedding: test sessions in the plane, near each other where their embeddings are."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from models.evaluation.laboratory import Json, Laboratory
from models.evaluation.trained import Parts

POINTS = 1_500


def embedding_map(lab: Laboratory) -> Json:
    """Coordinates and latent first intents of some test sessions of the first seed."""
    seed = lab.scale.seeds[0]

    def compute() -> Json:
        world, embedding = lab.world(seed), lab.embedding(seed)
        long = np.array([session.event_count > 1 for session in world.sessions])
        rows = np.flatnonzero(Parts.of(world.sessions).test & long)
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:POINTS])
        chosen = embedding[rows]
        scaled = (chosen - chosen.mean(axis=0)) / np.maximum(chosen.std(axis=0), 1e-9)
        perplexity = min(30.0, max(2.0, len(rows) / 4))
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flat = TSNE(2, perplexity=perplexity, random_state=0, init="pca").fit_transform(scaled)
        return {
            "names": list(world.names),
            "points": [
                [round(float(x), 2), round(float(y), 2), int(world.intent[row])]
                for (x, y), row in zip(flat, rows, strict=True)
            ],
        }

    return lab.ledger.result("map", {**lab.of_features(seed), "points": POINTS}, compute)
