"""Who takes a shard over has fenced its owner before it reads what the owner has left."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from models.bundle import default_bundle, load_bundle
from streamer.kafka.client import client_arguments
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.records import RecordWriter
from streamer.session_rules import session_rules
from streamer.settings import Settings
from streamer.worker.kill_points import KillPoint, Reach, pass_by
from streamer.worker.shard import Shard, ShardConfig
from streamer.worker.takeover import take_over
from tests.conftest import FreshSettings
from tests.worker.live import set_up


class StoppedError(Exception):
    """The new owner got no further."""


def stop_at(point: KillPoint) -> Reach:
    def reach(passed: KillPoint) -> None:
        if passed is point:
            raise StoppedError

    return reach


def parts(settings: Settings, reach: Reach) -> ShardConfig:
    rules = session_rules(settings)

    async def nothing(_: object) -> list[object]:
        return []

    return ShardConfig(
        settings=settings,
        arguments=client_arguments(settings.kafka),
        rules=rules,
        decode=ClickDecoder("auto", settings.clicks.max_bytes).decode,
        writer=RecordWriter(load_bundle(default_bundle()), rules.version),
        score=nothing,  # type: ignore[arg-type]
        shadow=None,
        start="earliest",
        reach=reach,
    )


async def a_shard(settings: Settings) -> Shard:
    """Partition 0, taken over; a broker that has just started has no coordinator at first."""
    while True:
        try:
            (shard,) = await take_over(parts(settings, pass_by), [0], lambda _: True)
            return shard
        except GroupCoordinatorNotAvailableError:
            await asyncio.sleep(0.2)


def test_the_last_owner_is_fenced_before_the_changelog_is_read(
    fresh_settings: FreshSettings,
) -> None:
    settings = fresh_settings({"topics.partitions": 1})
    set_up(settings)

    async def run() -> None:
        owner = await a_shard(settings)
        with pytest.raises(StoppedError):
            await take_over(parts(settings, stop_at(KillPoint.AFTER_FENCING)), [0], lambda _: True)
        with pytest.raises(KafkaError):
            await owner.commit(force=True)
        await owner.close()

    asyncio.run(run())


def test_each_owner_has_a_higher_epoch_than_the_last(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 1})
    set_up(settings)

    async def run() -> list[int]:
        epochs = []
        for _ in range(3):
            shard = await a_shard(settings)
            epochs.append(shard.epoch)
            await shard.close()
        return epochs

    assert asyncio.run(run()) == [1, 2, 3]
