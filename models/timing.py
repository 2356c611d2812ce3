"""Dwell and gaps of clicks: from timestamps to buckets and to a standardized number.

A missing dwell is the gap to the next click; the last click has none. Where clicks between a session's
head and tail weren't kept, the gap across the cut is missing too. -1 stands for missing throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Final

import numpy as np

from streamer.models.arrays import Float32, Int32, Int64
from streamer.schemas.click import HEAD_CLICKS, KEPT_CLICKS, Click, Session

EDGES_MS: Final = np.array([0, 1] + [250 << k for k in range(14)], dtype=np.int64)
"""Bucket 0 is missing, 1 is 0 ms, 2 below 250 ms, ... 16 from 34 min on: at least edge b-1."""
TIME_IDS = len(EDGES_MS) + 1
MAX_DURATION_MS = 86_400_000
DWELL_Z_LIMIT = np.float32(4.0)

_timestamp = attrgetter("timestamp")
_dwell_ms = attrgetter("dwell_ms")


def durations(sessions: Sequence[Session], lengths: Int64, clicks: Sequence[Click]) -> Int64:
    """[2, C]: dwell, and gap from the click before, ms in 0..MAX_DURATION_MS or -1."""
    count = len(clicks)
    times = np.fromiter(map(_timestamp, clicks), np.int64, count)
    gap = np.zeros(count + 1, np.int64)
    np.subtract(times[1:], times[:-1], out=gap[1:count])
    np.minimum(np.maximum(gap, 0), MAX_DURATION_MS, out=gap)
    ends = lengths.cumsum()
    gap[0] = -1
    gap[ends] = -1
    for i in (lengths == KEPT_CLICKS).nonzero()[0]:
        if sessions[i].event_count > KEPT_CLICKS:
            gap[ends[i] - KEPT_CLICKS + HEAD_CLICKS] = -1
    own = np.fromiter((-1 if d is None else d for d in map(_dwell_ms, clicks)), np.int64, count)
    result = np.empty((2, count), np.int64)
    result[0] = np.where(own < 0, gap[1:], np.minimum(own, MAX_DURATION_MS))
    result[1] = gap[:count]
    return result


def time_bucket(duration_ms: Int64) -> Int32:
    """Ids in 0..TIME_IDS - 1. The edges are whole numbers, so that the result is exact everywhere."""
    return np.searchsorted(EDGES_MS, duration_ms, side="right").astype(np.int32)


def log_seconds(duration_ms: Int64) -> Float32:
    """log(1 + seconds) of durations that aren't missing; 0 for the others."""
    seconds: Float32 = np.maximum(duration_ms, 0).astype(np.float32) * np.float32(0.001)
    return np.log1p(seconds)


def standardized(duration_ms: Int64, mean: float, std: float) -> Float32:
    """z of log_seconds, within +-DWELL_Z_LIMIT; 0 where missing."""
    z: Float32 = (log_seconds(duration_ms) - np.float32(mean)) / np.float32(std)
    z[duration_ms < 0] = 0
    np.minimum(np.maximum(z, -DWELL_Z_LIMIT), DWELL_Z_LIMIT, out=z)
    return z
