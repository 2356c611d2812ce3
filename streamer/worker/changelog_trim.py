"""Trimming the changelog: records before its oldest group that still counts are deleted now and then."""

from __future__ import annotations

import asyncio

from streamer.kafka.trimming import trim
from streamer.worker.kill_points import KillPoint
from streamer.worker.open_shards import OpenShards
from streamer.worker.shard import Shard, ShardConfig


async def trim_regularly(shards: OpenShards[Shard], config: ShardConfig) -> None:
    """Runs until cancelled."""
    while True:
        await asyncio.sleep(config.settings.worker.trim_every_s)
        offsets = {number: shard.state_log.trim_offset for number, shard in shards.by_number.items()}
        wanted = {number: offset for number, offset in offsets.items() if offset}
        if wanted:
            config.reach(KillPoint.WHILE_TRIMMING)
            await trim(config.arguments, config.settings.changelog, wanted)
