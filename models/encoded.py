"""The arrays that a model reads: sessions of one length bucket, zero-padded; and how they are filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from streamer.models.arrays import Float32, Int32, Int64

LENGTH_BUCKETS: Final = (8, 16, 32, 64)


@dataclass(frozen=True)
class Encoded:
    """N sessions of one length bucket T. `rows[i]` is the index of the input session of row i."""

    rows: Int64
    """[N]"""
    event_ids: Int32
    """[N, T, F]: EVENT_FIELDS, then the columns of extra fields"""
    dwell_z: Float32
    """[N, T]; 0 where missing"""
    query_slot: Int32
    """[N, T]; 0 none, else 1 + which of the session's queries this click has"""
    query_ids: Int32
    """[N, QUERY_SLOTS, QUERY_GRAMS]"""
    session_ids: Int32
    """[N, SESSION_FIELDS]"""
    lengths: Int32
    """[N]; clicks, 1..T"""


@dataclass(frozen=True)
class Flat:
    """The tokens of N sessions end to end, C in all."""

    lengths: Int64
    """[N]; adds up to C"""
    event_ids: Int32
    """[C, F]"""
    dwell_z: Float32
    """[C]"""
    query_slot: Int32
    """[C]"""
    query_ids: Int32
    session_ids: Int32


def bucketed(flat: Flat) -> list[Encoded]:
    """One `Encoded` per length bucket in use, shortest first; sessions keep their order within it."""
    bucket_of = np.searchsorted(LENGTH_BUCKETS, flat.lengths)
    starts = flat.lengths.cumsum() - flat.lengths
    used = sorted(set(bucket_of.tolist()))
    if len(used) == 1:
        return [_padded(flat, np.arange(len(flat.lengths)), starts, LENGTH_BUCKETS[used[0]])]
    return [_padded(flat, (bucket_of == b).nonzero()[0], starts, LENGTH_BUCKETS[b]) for b in used]


def _padded(flat: Flat, rows: Int64, starts: Int64, width: int) -> Encoded:
    lengths = flat.lengths[rows]
    inside = np.arange(width) < lengths[:, None]
    source = (starts[rows, None] + np.arange(width))[inside]
    shape = (len(rows), width)
    event_ids = np.zeros((*shape, flat.event_ids.shape[1]), dtype=np.int32)
    dwell_z = np.zeros(shape, dtype=np.float32)
    query_slot = np.zeros(shape, dtype=np.int32)
    event_ids[inside] = flat.event_ids[source]
    dwell_z[inside] = flat.dwell_z[source]
    query_slot[inside] = flat.query_slot[source]
    return Encoded(
        rows=rows,
        event_ids=event_ids,
        dwell_z=dwell_z,
        query_slot=query_slot,
        query_ids=flat.query_ids[rows],
        session_ids=flat.session_ids[rows],
        lengths=lengths.astype(np.int32),
    )
