"""A file of clicks (JSON lines, plain or gzipped) into closed sessions, by the very core of the worker.

A file has no arrival times: it is one partition whose arrival is the running maximum of event time, and
silence closes nothing. `sent_at` can't correct a clock without an arrival, so it is left aside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from schemas.click import Click, Session
from streamer.core.offline import by_event_time, sessions_of
from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome
from streamer.line_file import lines_of
from streamer.pipeline.counters import ClickCounters
from streamer.pipeline.decode import DEFAULT_MAX_BYTES, ClickDecoder, Rejected


def sessions_of_file(
    path: Path, rules: SessionRules, counters: ClickCounters, max_bytes: int = DEFAULT_MAX_BYTES
) -> list[Session]:
    """Sessions in order of closing; where every click ended is counted in `counters`.

    Raises UsageError if the file can't be read to its end.
    """
    outcomes: Counter[Outcome] = Counter()
    clicks = by_event_time(decoded_clicks(path, counters, max_bytes))
    sessions = list(sessions_of(clicks, rules, outcomes))
    counters.sessions += len(sessions)
    counters.closed += outcomes[Outcome.JOINED]
    counters.late += outcomes[Outcome.LATE]
    counters.duplicates += outcomes[Outcome.DUPLICATE]
    counters.dead_lettered += outcomes[Outcome.TOO_NEW] + outcomes[Outcome.TOO_OLD]
    return sessions


def decoded_clicks(
    path: Path, counters: ClickCounters, max_bytes: int = DEFAULT_MAX_BYTES
) -> Iterator[tuple[str, Click, str | None, bool]]:
    """(visitor_id, click, user_id, crawler) per line that is a click with consent, in the file's order.

    `counters` counts the lines as received, those that are no clicks as dead-lettered, and filtered ones.
    """
    decoder = ClickDecoder("json", max_bytes)
    for number, line in lines_of(path, "clicks as JSON lines"):
        counters.received += 1
        try:
            arrived = decoder.decode(line, None, f"line-{number}")
        except Rejected:
            counters.dead_lettered += 1
            continue
        if arrived is None:
            counters.filtered += 1
        else:
            yield arrived.visitor_id, arrived.click, arrived.user_id, arrived.crawler
