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

    async def topics_everywhere(self) -> set[str]:
        """Topics that every broker knows: a new one is known to one broker before it is to the next."""
        known = []
        async for node_id in self._ready_nodes():
            answer = (await super()._send_request(MetadataRequest(None), node_id)).to_object()
            known.append({topic["topic"] for topic in answer["topics"] if not topic["error_code"]})
        return set.intersection(*known)

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
