"""What a commit makes durable is the state of one moment, whatever goes on while it is written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from operator import attrgetter

import orjson
import pytest

from streamer.core.session import OpenSession
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.partition import Partition
from streamer.replay.sources import LogRecord
from streamer.rules_from_settings import session_rules
from streamer.settings import Settings
from streamer.worker import changelog_groups
from streamer.worker.recovery import Recovery
from tests.conftest import FreshSettings
from tests.worker.live import committed, set_up, wait_until
from tests.worker.test_takeover import a_shard

NOW_MS = 1_795_046_400_000
VISITORS = 30
MOST_CLICKS = 10_000
"""While a commit is made: of many more, sessions would be too long to stay open."""


def click(offset: int) -> LogRecord:
    """Each visitor's in turn, a second apart."""
    at = NOW_MS + offset * 1000
    visitor = f"v{offset % VISITORS}"
    fields = {"event_id": str(offset), "visitor_id": visitor, "timestamp": at, "event_type": "page_view"}
    return LogRecord(offset, at, None, orjson.dumps(fields))


def after(count: int, settings: Settings) -> list[OpenSession]:
    """Sessions that are open after so many clicks."""
    partition = Partition("clicks", 0, Sessionizer(session_rules(settings)), ClickDecoder().decode)
    partition.process([click(offset) for offset in range(count)], 0)
    sessionizer = partition.sessionizer
    return [each for visitor in sessionizer.visitors() for each in sessionizer.open_sessions(visitor)]


def states(sessions: Iterable[OpenSession]) -> list[object]:
    """All that they consist of, by visitor."""
    return [each.to_row() for each in sorted(sessions, key=attrgetter("visitor_id"))]


def recovered(settings: Settings) -> Recovery:
    """What the changelog tells; the end of a transaction takes a moment to get there."""
    recovery = Recovery()
    for record in committed(settings, settings.changelog).records:
        recovery.feed(record.offset, record.value)
    recovery.finish()
    return recovery


def position_of(recovery: Recovery) -> int | None:
    return recovery.marker.position if recovery.marker else None


@pytest.mark.parametrize("chunk_bytes", [1, 300, 10**6])
def test_clicks_that_come_while_images_are_made_are_in_the_next_commit(
    fresh_settings: FreshSettings, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(changelog_groups, "CHUNK_BYTES", chunk_bytes)
    settings = fresh_settings({"topics.partitions": 1})
    set_up(settings)

    async def run() -> tuple[int, int]:
        shard = await a_shard(settings)
        partition = shard.partition
        partition.process([click(offset) for offset in range(VISITORS)], 0)
        for _ in range(2):
            end = partition.position + MOST_CLICKS
            commit = asyncio.create_task(shard.commit(force=True))
            while not commit.done():
                await asyncio.sleep(0)
                if partition.position < end:
                    partition.process([click(partition.position)], 0)
            await commit
        await shard.close()
        return shard.committed_position, partition.position

    position, processed = asyncio.run(run())
    assert VISITORS < position < processed
    wait_until(lambda: position_of(recovered(settings)) == position)
    assert states(recovered(settings).sessions) == states(after(position, settings))
