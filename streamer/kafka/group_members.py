"""Who of a consumer group owns which partition, as the group's coordinator says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment


async def owners(admin: AIOKafkaAdminClient, group: str, topic: str) -> dict[int, str]:
    """Member and host by partition; while the group rebalances, nobody's. Raises KafkaError."""
    found = {}
    for response in await admin.describe_consumer_groups([group]):
        for _, _, _, _, _, members in response.groups:
            for member_id, _, host, _, assignment in members:
                for number in _assigned(assignment, topic):
                    found[number] = f"{member_id} at {host.lstrip('/')}"
    return found


async def all_members(admin: AIOKafkaAdminClient, groups: Iterable[str]) -> list[str]:
    """Member, host and group of every member, with or without partitions. Raises KafkaError."""
    found = []
    for group in groups:
        for response in await admin.describe_consumer_groups([group]):
            for _, _, _, _, _, members in response.groups:
                found += [f"{each[0]} at {each[2].lstrip('/')} in group {group}" for each in members]
    return found


def _assigned(assignment: bytes, topic: str) -> list[int]:
    if not assignment:
        return []
    decoded: Any = ConsumerProtocolMemberAssignment.decode(assignment)
    return [tp.partition for tp in decoded.partitions() if tp.topic == topic]
