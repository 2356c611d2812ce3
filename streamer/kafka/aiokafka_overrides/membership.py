"""What the consumer group has lately said about this member, read off the client's own requests.

Two things that aiokafka does not report: when a heartbeat was last answered with the current generation, and
that a static member (KIP-345) was replaced by another process of the same name. On the latter aiokafka
would join again as a new member and so replace the other in turn, for ever: it forgets its member id, which
is what lets the broker tell an expired member from a fenced one. So the id is kept, whatever heartbeats and
commits of offsets are answered (several may be refused before the next join), until a join itself says that
nobody of that name is known: the member had expired.

A join is answered once all members have joined or expired, and a broker answers what comes over a connection
in turn. So what aiokafka sends behind a join, a leave or a commit of offsets, waits for a member that was
killed. Here a leave has another connection, and who leaves waits for no join.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiokafka.protocol.group import JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest

FENCED_INSTANCE_ID = 82
"""Error code: another member has joined under the same instance id."""
UNKNOWN_MEMBER_ID = 25
"""Error code: there is no such member, or none any more."""


class Membership:
    """Attach it to a group coordinator before it joins; attributes may be read from any thread."""

    def __init__(self, instance_id: str | None) -> None:
        self.instance_id = instance_id
        self.confirmed_at = float("-inf")
        """Monotonic seconds at which the last heartbeat was sent that the group answered with a yes."""
        self.replaced = False
        """Whether another process has taken this static member's place."""
        self.joining = False
        """Whether a join waits for its answer, and so would all that is sent to the coordinator behind it."""
        self._expired = False
        """Whether the last join was answered with: no such member."""

    def attach(self, coordinator: Any) -> None:
        """Watch the requests of an aiokafka GroupCoordinator."""
        heartbeat, send, reset, close = (
            coordinator._do_heartbeat,
            coordinator._send_req,
            coordinator.reset_generation,
            coordinator.close,
        )

        async def heartbeat_and_note() -> bool:
            sent_at = time.monotonic()
            answered: bool = await heartbeat()
            if answered and not coordinator._rejoin_needed_fut.done():
                self.confirmed_at = sent_at
            return answered

        async def send_and_note(request: Any) -> Any:
            if isinstance(request, JoinGroupRequest | SyncGroupRequest):
                self.joining = True
                try:
                    response = await send(request)
                finally:
                    self.joining = False
            elif isinstance(request, LeaveGroupRequest) and coordinator.coordinator_id is not None:
                response = await coordinator._client.send(coordinator.coordinator_id, request)
            else:
                response = await send(request)
            error_code = getattr(response, "error_code", 0)
            self.replaced |= error_code == FENCED_INSTANCE_ID
            if isinstance(request, JoinGroupRequest):
                self._expired = error_code == UNKNOWN_MEMBER_ID
            return response

        def reset_but_keep_the_name() -> None:
            member_id = coordinator.member_id
            reset()
            if not self._expired:
                coordinator.member_id = member_id

        async def close_at_once() -> None:
            coordinator._coordination_task.cancel()
            await asyncio.wait({coordinator._coordination_task}, timeout=1)
            await close()

        coordinator._do_heartbeat = heartbeat_and_note
        coordinator._send_req = send_and_note
        coordinator.close = close_at_once
        if self.instance_id is not None:
            coordinator.reset_generation = reset_but_keep_the_name
