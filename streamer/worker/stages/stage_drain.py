"""The end of a drain: the identity stages have read what was published, whoever of their groups has it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from aiokafka.errors import KafkaError

from streamer.kafka.aiokafka_overrides.cancellation import only_ours
from streamer.worker.draining import DrainTurns
from streamer.worker.log_reader import LogReader, read_group_offsets
from streamer.worker.open_shards import OpenShards
from streamer.worker.stages.stage_table import StageTable


async def drain_stages(tables: Sequence[StageTable], turns: DrainTurns) -> None:
    """Wait until each stage has read its source, and its links, up to the end as it is when the stage before
    has. Raises DrainTimeoutError."""
    for table in tables:
        ends = await _ends(table)
        while behind := await _behind(table, ends):
            await turns.wait(partial(_described, table, behind))


async def _described(table: StageTable, behind: list[str]) -> str:
    return f"stage {table.config.name} has not read {', '.join(behind)}"


async def _ends(table: StageTable) -> Mapping[str, Mapping[int, int]]:
    config = table.config
    numbers = range(config.partitions)
    bounds = {}
    if config.side_inputs:  # aiokafka's client is not to be stopped before it has done anything
        async with LogReader(config.arguments) as reader:
            bounds = {topic: await reader.bounds(topic, numbers) for topic in config.side_inputs}
    # A transaction that is committed is open for the moment that its partitions take to learn of it.
    async with LogReader(config.arguments, isolation_level="read_uncommitted") as reader:
        bounds[config.source] = await reader.bounds(config.source, numbers)
    return {topic: {number: end for number, (_, end) in of.items()} for topic, of in bounds.items()}


async def _behind(table: StageTable, ends: Mapping[str, Mapping[int, int]]) -> list[str]:
    """Topics and partitions that are not read so far: of the source by the group, of the side inputs by this
    worker's own shards."""
    config, shards = table.config, table.shards
    found = []
    await table.commit_all()
    read = await _group_offsets(table)
    if any(shard.committed_position > read.get(number, 0) for number, shard in shards.by_number.items()):
        await _commit_offsets(shards)
        read = await _group_offsets(table)
    for number, end in ends[config.source].items():
        if read.get(number, 0) < end:
            found.append(f"{config.source} partition {number}")
    for topic in config.side_inputs:
        for number, shard in shards.by_number.items():
            if shard.positions[topic] < ends[topic][number]:
                found.append(f"{topic} partition {number}")
    return found


async def _commit_offsets(shards: OpenShards[Any]) -> None:
    """Say in the group how far this worker has come.

    Not while it joins the group anew: the commit would be refused, and a client that is refused joins once
    more. Two drains that ask every second would never get to the end of that.
    """
    if shards.consumer is None or shards.rebalancing:
        return
    with contextlib.suppress(KafkaError), only_ours():
        await shards.consumer.commit()


async def _group_offsets(table: StageTable) -> dict[int, int]:
    config = table.config
    try:
        return (await read_group_offsets(config.arguments, {config.group: config.source}))[config.group]
    except KafkaError:
        return {}
