"""Whose vectors are nearest, exactly: every record of a view is looked at. For one question, not for many."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from streamer.client.table import Float32
from streamer.models.explain import nearest
from streamer.schemas import codec
from streamer.serving.records import RecordTable, StoredRecord

_AT_ONCE = 10_000


class SimilarRecord(NamedTuple):
    cosine: float
    key: str
    stored: StoredRecord


def most_similar(
    table: RecordTable, key: str, space: str, vector: Float32, count: int
) -> list[SimilarRecord]:
    """At most `count` records of this space other than that of `key`, the nearest first; none of robots."""
    best: list[SimilarRecord] = []
    found = _vectors(table, key, space, len(vector))
    while portion := list(islice(found, _AT_ONCE)):
        vectors = np.stack([each for _, _, each in portion])
        for row, cosine in zip(*nearest(vector, vectors, count), strict=True):
            best.append(SimilarRecord(float(cosine), *portion[row][:2]))
        best = heapq.nlargest(count, best, key=lambda each: each.cosine)
    return best


def _vectors(
    table: RecordTable, key: str, space: str, dimensions: int
) -> Iterator[tuple[str, StoredRecord, Float32]]:
    for other, stored in table.items():
        if other == key or stored.embedding_space != space:
            continue
        try:
            record = stored.decoded()
        except codec.CodecError:
            continue
        vector = None if record["is_bot"] else table.vector_of(record)
        if vector is not None and len(vector) == dimensions:
            yield other, stored, vector
