"""Prototypes: typical directions of embeddings, and how much a session belongs to each (soft k-means).

A head that is linear in the vector sees its neighbourhoods only through them. They belong to one encoder, and
come from training sessions alone: no labels, no taxonomy. Shapes: N sessions, D numbers of an embedding, K
prototypes.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from streamer.models.arrays import Float32
from streamer.models.calibration import softmax
from streamer.models.sphere import Sphere

FORMAT: Final = 1
MOST: Final = 256
"""Prototypes of a bundle: a record has four bytes for each."""
_AT_ONCE = 256
"""Sessions; more would need more memory than a processor's cache has."""


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    embedding_space: str
    temperature: float
    centre: list[float]
    directions: list[list[float]]


@dataclass(frozen=True)
class Prototypes:
    """MacQueen's k-means on the sphere (Dhillon, Modha, 2001), its memberships soft (Bezdek, 1981)."""

    version: str
    """12 hex digits of the file's sha256: memberships of two can't be compared."""
    embedding_space: str
    """Of the encoder whose vectors they are about."""
    temperature: float
    """Cosines are divided by it; above 0."""
    sphere: Sphere
    """Around the training sessions."""
    directions: Float32
    """[K, D]: of length 1, from the sphere's centre"""

    def __len__(self) -> int:
        return len(self.directions)

    def memberships(self, embeddings: Float32) -> Float32:
        """[N, K]: of embeddings [N, D]; 0 to 1, 1 together. Row by row, to the last bit."""
        found = np.empty((len(embeddings), len(self)), np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # of embeddings that aren't finite
            for start in range(0, len(embeddings), _AT_ONCE):
                points = self.sphere.project(embeddings[start : start + _AT_ONCE])
                # No matrix product, which adds in another order where the sessions are others.
                cosines = (points[:, None, :] * self.directions).sum(2)
                found[start : start + _AT_ONCE] = softmax(cosines, self.temperature)
        return found


def to_json(embedding_space: str, temperature: float, sphere: Sphere, directions: Float32) -> bytes:
    """Canonical: the same prototypes always give the same bytes."""
    document = _Document(
        format=FORMAT,
        embedding_space=embedding_space,
        temperature=temperature,
        centre=_digits(sphere.centre),
        directions=[_digits(each) for each in directions],
    )
    return msgspec.json.encode(document) + b"\n"


def _digits(vector: Float32) -> list[float]:
    return [float(f"{each:.6g}") for each in vector.tolist()]


def from_json(data: bytes) -> Prototypes:
    """Raises ValueError with a reason."""
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"prototypes can't be read: {error}") from None
    if problem := _problem(document):
        raise ValueError(f"prototypes: {problem}")
    return Prototypes(
        version=hashlib.sha256(data).hexdigest()[:12],
        embedding_space=document.embedding_space,
        temperature=document.temperature,
        sphere=Sphere(np.array(document.centre, np.float32)),
        directions=np.array(document.directions, np.float32),
    )


def _problem(document: _Document) -> str | None:
    if document.format != FORMAT:
        return f"format is {document.format}, expected {FORMAT}"
    if not 1e-3 <= document.temperature <= 1e3:
        return f"temperature is {document.temperature}, expected 0.001 to 1000"
    if not 2 <= len(document.directions) <= MOST:
        return f"there are {len(document.directions)}, expected 2 to {MOST}"
    width = len(document.centre)
    for number, direction in enumerate(document.directions):
        if len(direction) != width:
            return f"number {number} has {len(direction)} numbers, the centre {width}"
        if not math.isclose(math.hypot(*direction), 1.0, abs_tol=1e-3):
            return f"number {number} is of length {math.hypot(*direction):.4g}, expected 1"
    if not all(map(math.isfinite, document.centre)):
        return "the centre isn't finite"
    return None
