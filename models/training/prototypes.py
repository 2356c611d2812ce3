"""Learns a bundle's prototypes from the vectors of training sessions, by k-means on the sphere.

How soft memberships are follows from how near validation sessions are to their prototypes: the temperature is
their mean distance, 1 - cosine, so that a prototype further by that much has 1/e of the nearest one's weight.
Labels aren't looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from streamer.models import prototypes as prototype_files
from streamer.models.arrays import Float32
from streamer.models.bundle import PROTOTYPES, Bundle
from streamer.models.runtime import Runtime
from streamer.models.sphere import Sphere, unit
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.clustering import fit_k_means
from streamer.models.training.corpus import by_split
from streamer.models.training.errors import TrainingError
from streamer.models.training.export import write_folder
from streamer.models.training.token_shards import LEARNT_FROM
from streamer.schemas.click import Session

MOST = 40
"""Prototypes: 160 bytes of a record."""
FEWEST = 8
_SESSIONS_OF_EACH = 4
"""Training sessions that differ, at least."""
_LOWEST_TEMPERATURE = 0.02
_STARTS = 3
_AT_ONCE = 4096


@dataclass(frozen=True)
class Learnt:
    content: bytes
    """Of the bundle's file."""
    notes: dict[str, Any]
    """What the manifest says of them."""


def served_embeddings(tokenizer: Tokenizer, runtime: Runtime, sessions: Sequence[Session]) -> Float32:
    """[S, D], as a worker computes them."""
    found = [np.zeros((0, runtime.dim), np.float32)]
    for start in range(0, len(sessions), _AT_ONCE):
        found.append(runtime.run_all(tokenizer.encode(sessions[start : start + _AT_ONCE])).embeddings)
    return np.concatenate(found)


def learn_prototypes(embedding_space: str, train: Float32, validation: Float32, seed: int) -> Learnt | None:
    """From vectors [N, D] of each split; None if too few of them differ."""
    sphere = Sphere.of(train)
    points = sphere.project(train)
    distinct = len(np.unique(points.round(3), axis=0))
    count = min(MOST, distinct // _SESSIONS_OF_EACH)
    if count < FEWEST:
        return None
    rng = np.random.default_rng(seed)
    directions = unit(fit_k_means(points, count, rng, _STARTS).cluster_centers_)
    directions = directions[np.linalg.norm(directions, axis=1) > 0.5]  # in the centre itself there is none
    distance = float((1 - (sphere.project(validation) @ directions.T).max(1)).mean())
    temperature = float(f"{max(distance, _LOWEST_TEMPERATURE):.3g}")
    content = prototype_files.to_json(embedding_space, temperature, sphere, directions)
    return Learnt(content, {"prototypes": len(directions), "temperature": temperature})


def add_prototypes(bundle: Bundle, sessions: Iterable[Session], seed: int, out: Path) -> dict[str, Any]:
    """Writes the bundle with prototypes into the folder `out`; what its manifest says of them. Raises
    TrainingError."""
    splits = by_split(sessions)
    train, validation = (
        served_embeddings(bundle.tokenizer, bundle.runtime, splits[each]) for each in LEARNT_FROM
    )
    both = len(train) and len(validation)
    learnt = learn_prototypes(bundle.embedding_space, train, validation, seed) if both else None
    if learnt is None:
        raise TrainingError(
            f"{len(train)} training and {len(validation)} validation sessions differ too little to find"
            f" {FEWEST} prototypes: expected some hundred sessions of many visitors"
        )
    files = {name: (bundle.path / name).read_bytes() for name in bundle.manifest.files}
    metrics = {**bundle.manifest.metrics, "prototypes": learnt.notes}
    manifest = msgspec.structs.replace(bundle.manifest, metrics=metrics)
    write_folder({**files, PROTOTYPES: learnt.content}, manifest, out)
    return learnt.notes
