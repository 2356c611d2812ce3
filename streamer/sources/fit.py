"""Whether records look like what `clicks.source` says, and which source they look like more."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from streamer.pipeline.decode import Rejected
from streamer.pipeline.partition import Record
from streamer.pipeline.registered import PREFIX_SIZES, RegisteredSchemas
from streamer.settings import NATIVE, ClickSettings
from streamer.sources import PROFILES, click_decoder, whole_value

FIRST_RECORDS = 100
"""So many tell a source that was mistaken from records that are damaged."""
_FEWEST = 10
"""Fewer records tell nothing."""

log = structlog.get_logger(__name__)


class FirstRecords:
    """Looks at the first records of a log, and calls `report` with a line for people if they are a misfit.

    That is said of the first FIRST_RECORDS; before, if none at all can be read, for there may be no more.
    """

    def __init__(
        self, clicks: ClickSettings, registered: RegisteredSchemas | None, report: Callable[[str], None]
    ) -> None:
        self._clicks = clicks
        self._whole = whole_value(clicks, registered)
        self._report = report
        self._left = FIRST_RECORDS
        self._values: list[bytes] = []
        self._has_looked = False

    def see(self, records: Sequence[Record]) -> None:
        """Take in the next ones."""
        if not self._left:
            return
        first = records[: self._left]
        self._left -= len(first)
        for record in first:
            value = record.value if self._whole is None else self._whole(record.value, record.headers)
            if value and value[0] not in PREFIX_SIZES:  # what has a schema says itself what it is
                self._values.append(value)
        if not self._left or self._are_all_unreadable():
            report_if_misfit(self._clicks, self._values, self._report)
            self._left, self._values = 0, []

    def _are_all_unreadable(self) -> bool:
        """Of the first few; only asked once."""
        if self._has_looked or len(self._values) < _FEWEST:
            return False
        self._has_looked = True
        return not _readable(self._clicks, self._values)


def log_misfit(said: str) -> None:
    """For those who watch the log of what they have just set up."""
    log.warning("clicks_misfit", hint=said)


def report_if_misfit(clicks: ClickSettings, records: Sequence[bytes], report: Callable[[str], None]) -> None:
    """Call `report` with what `misfit` says, if that is anything."""
    said = misfit(clicks, records)
    if said is not None:
        report(said)


def misfit(clicks: ClickSettings, records: Sequence[bytes]) -> str | None:
    """One line for people if half or more of ten records or more, in JSON, can't be read as set."""
    if len(records) < _FEWEST:
        return None
    readable = _readable(clicks, records)
    if 2 * readable > len(records):
        return None
    best, most = best_source(clicks, records)
    found = (
        f"{len(records) - readable:,} of the first {len(records):,} records can't be read with "
        f"clicks.source = {clicks.source}"
    )
    if most <= readable:
        return f"{found}, and no more with another; streamer map --check says what is missing"
    return f"{found}; {best} can read {most:,} of them"


def best_source(clicks: ClickSettings, records: Sequence[bytes]) -> tuple[str, int]:
    """Which of our own shape and the profiles can read most of these records, in JSON; and how many."""
    counts = {
        source: _readable(clicks.model_copy(update={"source": source, "visitor_from": None}), records)
        for source in (NATIVE, *PROFILES)
    }
    best = max(counts, key=counts.__getitem__)
    return best, counts[best]


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
