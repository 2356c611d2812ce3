"""Under whatever settings workers go on from each other, a state's version says all that is in it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

import orjson

from streamer.core.session import OpenSession
from streamer.models.scorer import ScoreError
from streamer.replay.sources import LogRecord
from streamer.schemas.click import Session
from streamer.settings import Settings
from streamer.sources import click_decoder
from streamer.worker.changelog import Marker, decode
from streamer.worker.kill_points import pass_by
from streamer.worker.options import WorkerOptions
from streamer.worker.shard import ShardConfig
from tests.conftest import FreshSettings
from tests.worker.live import committed, send, set_up
from tests.worker.test_takeover import config, taken_over

NOW_MS = 1_795_046_400_000
PLAIN, WITH_EXTRAS, WITH_HELD = 4, 5, 6
FIELDS_OF_VERSION_5 = 13
"""Of a stored session; one that is or was held has more."""

KEPT = ("page_title",)
SETTINGS = [((), 0), (KEPT, 0), ((), 0), ((), 600), ((), 0), (KEPT, 600), (KEPT, 0), ((), 0)]
"""`clicks.keep` and `late.revise_within_s` of one worker after the other."""


def some_clicks(count: int, chance: random.Random) -> list[LogRecord]:
    """Of ten visitors, some of them late, each with a title."""
    records = []
    for offset in range(count):
        arrival = NOW_MS + offset * 4000
        fields = {
            "event_id": str(offset),
            "visitor_id": f"v{chance.randrange(10)}",
            "timestamp": arrival - chance.choice([0, 0, 0, 150_000]),
            "event_type": "page_view",
            "page_title": "Mortgages",
        }
        records.append(LogRecord(offset, arrival, None, orjson.dumps(fields)))
    return records


async def unscored(sessions: Sequence[Session]) -> list[ScoreError]:
    return [ScoreError(session.session_id, "no model") for session in sessions]


def reading(settings: Settings) -> ShardConfig:
    own = config(settings, pass_by, WorkerOptions(accept_rules=True))
    return replace(own, decode=click_decoder(settings.clicks).decode, score=unscored)  # type: ignore[arg-type]


def needed_version(window: OpenSession) -> int:
    """The lowest whose workers can read this session."""
    if len(window.to_row()) > FIELDS_OF_VERSION_5:
        return WITH_HELD
    has_extras = window.retained and any(click.extras for click in window.clicks())
    return WITH_EXTRAS if has_extras else PLAIN


def test_no_version_is_lower_than_what_its_sessions_need_until_they_are_drained(
    fresh_settings: FreshSettings,
) -> None:
    base = fresh_settings({"topics.partitions": 1, "session.gap_s": 60, "watermark.out_of_orderness_s": 5})
    set_up(base)
    clicks = some_clicks(60 * len(SETTINGS), random.Random(2126))
    send(base, [(None, click.value) for click in clicks])

    async def run() -> None:
        for keep, revise_s in SETTINGS:
            changed = {
                "clicks": base.clicks.model_copy(update={"keep": keep}),
                "late": base.late.model_copy(update={"revise_within_s": revise_s}),
            }
            shard = await taken_over(reading(base.model_copy(update=changed)))
            for _ in range(4):
                shard.partition.process(clicks[shard.position : shard.position + 15], 0)
                await shard.commit(force=True)
            await shard.close()
        shard = await taken_over(reading(base))
        while not shard.partition.drain():
            pass
        await shard.commit(force=True)
        await shard.close()

    asyncio.run(run())
    entries = [decode(record.value) for record in committed(base, base.changelog).records]
    needed = set[int]()
    for entry in entries:
        if not isinstance(entry, Marker):
            versions = {needed_version(window) for window in entry.sessions}
            assert max(versions) <= entry.state_version
            needed |= versions
    assert needed == {PLAIN, WITH_EXTRAS, WITH_HELD}
    markers = [entry.state_version for entry in entries if isinstance(entry, Marker)]
    assert markers[0] == markers[-1] == PLAIN
