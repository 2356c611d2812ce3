"""Erasures on their way from their topic to a partition of the clicks.

What was there before a take-over is read by the take-over itself, before the first click; the rest comes
while the worker runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog

from streamer.pipeline.erasures import erased_by
from streamer.pipeline.partition import Partition

log = structlog.get_logger(__name__)


def take_in_erasures(partition: Partition, records: Iterable[Any]) -> None:
    """Hand records of the erasures topic to a partition; a second time changes nothing."""
    for record in records:
        if record.offset < partition.erasures.position:
            continue
        erased = erased_by(record.value)
        if erased is not None and erased.visitor_id is not None:
            partition.erase(erased.visitor_id, record.timestamp, record.offset)
            continue
        partition.erasures.position = record.offset + 1  # a customer's is the identity stages' affair
        if erased is None and record.value is not None:
            log.error("erasure_unreadable", partition=partition.number, offset=record.offset)
