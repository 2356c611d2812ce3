"""Administration of several brokers, some of which may be down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import NodeNotReadyError
from aiokafka.protocol.metadata import MetadataRequest


class AdminClient(AIOKafkaAdminClient):
    """Asks the first broker that can be connected to.

    aiokafka draws one of all that it knows; if that one has just died, the request fails.
    """

    async def partitions_everywhere(self) -> dict[str, int]:
        """The partitions by topic that every broker knows: one broker hears of a new one before the next."""
        known = []
        async for node_id in self._ready_nodes():
            answer = (await super()._send_request(MetadataRequest(None), node_id)).to_object()
            found = [topic for topic in answer["topics"] if not topic["error_code"]]
            known.append({topic["topic"]: len(topic["partitions"]) for topic in found})
        names = set(known[0]).intersection(*known)
        return {name: min(partitions[name] for partitions in known) for name in names}

    async def _send_request(self, request: Any, node_id: int | None = None) -> Any:
        if node_id is None:
            node_id = await anext(self._ready_nodes())
        return await super()._send_request(request, node_id)

    async def _ready_nodes(self) -> AsyncIterator[int]:
        """At least one. Raises NodeNotReadyError."""
        nodes, ready = [broker.nodeId for broker in self._client.cluster.brokers()], 0
        for node_id in nodes:
            if await self._client.ready(node_id):
                ready += 1
                yield node_id
        if not ready:
            raise NodeNotReadyError(f"none of the brokers {sorted(nodes)} can be connected to")
