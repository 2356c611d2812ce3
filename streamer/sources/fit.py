"""Whether records look like what `clicks.source` says, and which source they look like more."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.pipeline.decode import Rejected
from streamer.settings import NATIVE, ClickSettings
from streamer.sources import PROFILES, click_decoder

FIRST_RECORDS = 100
"""So many tell a source that was mistaken from records that are damaged."""
_FEWEST = 10
"""Fewer records tell nothing."""


def misfit(clicks: ClickSettings, records: Sequence[bytes]) -> str | None:
    """One line for people if half or more of ten records or more, in JSON, can't be read as set."""
    if len(records) < _FEWEST:
        return None
    readable = _readable(clicks, records)
    if 2 * readable > len(records):
        return None
    counts = {
        source: _readable(clicks.model_copy(update={"source": source}), records)
        for source in (NATIVE, *PROFILES)
    }
    best = max(counts, key=counts.__getitem__)
    found = (
        f"{len(records) - readable:,} of the first {len(records):,} records can't be read with "
        f"clicks.source = {clicks.source}"
    )
    if counts[best] <= readable:
        return f"{found}, and no more with another; streamer map --check says what is missing"
    return f"{found}; {best} can read {counts[best]:,} of them"


def _readable(clicks: ClickSettings, records: Sequence[bytes]) -> int:
    """How many are clicks, or no clicks by what the source says of them."""
    decode = click_decoder(clicks, "json").decode
    count = 0
    for record in records:
        try:
            decode(record, None, "fit")
        except Rejected:
            continue
        count += 1
    return count
