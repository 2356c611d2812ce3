"""Who takes a shard over has fenced its owner before it reads what the owner has left."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError

from streamer.kafka.client import client_arguments
from streamer.models.bundle import default_bundle, load_bundle
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.records import RecordWriter
from streamer.registry.lookup import SchemaLookup
from streamer.registry.outputs import RegistryIds
from streamer.rules_from_settings import session_rules
from streamer.settings import Settings
from streamer.worker.changelog import StateTopics
from streamer.worker.kill_points import KillPoint, Reach, pass_by
from streamer.worker.options import WorkerOptions
from streamer.worker.refused import RefusedError
from streamer.worker.shard import Shard, ShardConfig
from streamer.worker.start_checks import StartedOn
from streamer.worker.takeover import take_over
from tests.conftest import FreshSettings
from tests.worker.live import set_up

NO_OPTIONS = WorkerOptions()


class StoppedError(Exception):
    """The new owner got no further."""


def stop_at(point: KillPoint) -> Reach:
    def reach(passed: KillPoint) -> None:
        if passed is point:
            raise StoppedError

    return reach


def config(settings: Settings, reach: Reach, options: WorkerOptions = NO_OPTIONS) -> ShardConfig:
    rules = session_rules(settings)

    async def nothing(_: object) -> list[object]:
        return []

    return ShardConfig(
        settings=settings,
        arguments=client_arguments(settings.kafka),
        rules=rules,
        registry=RegistryIds(SchemaLookup(settings.registry), {}),
        decode=ClickDecoder("auto", settings.clicks.max_bytes).decode,
        writer=RecordWriter(load_bundle(default_bundle()), rules.version),
        score=nothing,  # type: ignore[arg-type]
        shadow=None,
        options=options,
        source=StartedOn(StateTopics(settings.topics.clicks), settings.topics.partitions),
        reach=reach,
    )


async def a_shard(settings: Settings, options: WorkerOptions = NO_OPTIONS) -> Shard:
    """Partition 0, taken over."""
    return await taken_over(config(settings, pass_by, options))


async def taken_over(config: ShardConfig) -> Shard:
    """Partition 0; a broker that has just started has no coordinator at first."""
    while True:
        try:
            shards, failed = await take_over(config, [0], lambda _: True, lambda: None)
            if shards:
                return shards[0]
            print("not yet:", failed)
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
            await take_over(
                config(settings, stop_at(KillPoint.AFTER_FENCING)), [0], lambda _: True, lambda: None
            )
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


def test_state_of_other_session_rules_is_refused_unless_they_are_accepted(
    fresh_settings: FreshSettings,
) -> None:
    before = fresh_settings({"topics.partitions": 1})
    now = fresh_settings({"topics.partitions": 1, "session.gap_s": 600})
    set_up(before)

    async def run() -> None:
        await (await a_shard(before)).close()
        with pytest.raises(RefusedError, match=r"under session rules .* --accept-rules"):
            await a_shard(now)
        await (await a_shard(now, WorkerOptions(accept_rules=True))).close()
        await (await a_shard(now)).close()

    asyncio.run(run())
