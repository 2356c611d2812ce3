"""A static member keeps its id until the group says that it has expired: only so is it told of a twin."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from aiokafka.protocol.group import JoinGroupRequest

from streamer.kafka.aiokafka_overrides.membership import FENCED_INSTANCE_ID, UNKNOWN_MEMBER_ID, Membership

OK = 0


class Response(NamedTuple):
    error_code: int


class Coordinator:
    """As much of aiokafka's as is watched; `answers` are the error codes of what is sent."""

    def __init__(self, *answers: int) -> None:
        self.member_id, self.generation = "me", 3
        self._answers = list(answers)
        self._rejoin_needed_fut = asyncio.get_running_loop().create_future()

    async def _do_heartbeat(self) -> bool:
        return True

    async def _send_req(self, request: Any) -> Response:
        return Response(self._answers.pop(0))

    def reset_generation(self) -> None:
        self.member_id, self.generation = "", -1

    async def close(self) -> None:
        pass


def join() -> JoinGroupRequest:
    return JoinGroupRequest("g", 1, 1, "me", "name", "consumer", [])


def after(*answers: int, instance_id: str | None = "name") -> tuple[str, bool]:
    """Member id and whether it was replaced, after two refused requests and a join that are so answered."""

    async def run() -> tuple[str, bool]:
        coordinator: Any = Coordinator(*answers)
        membership = Membership(instance_id)
        membership.attach(coordinator)
        for request in (object(), object(), join()):
            if (await coordinator._send_req(request)).error_code == UNKNOWN_MEMBER_ID:
                coordinator.reset_generation()
        return coordinator.member_id, membership.replaced

    return asyncio.run(run())


def test_a_twin_is_told_however_often_the_member_was_refused_before_its_join() -> None:
    assert after(UNKNOWN_MEMBER_ID, UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID) == ("me", True)


def test_a_member_that_has_expired_joins_as_a_new_one() -> None:
    assert after(UNKNOWN_MEMBER_ID, OK, UNKNOWN_MEMBER_ID) == ("", False)


@pytest.mark.parametrize("answer", [OK, UNKNOWN_MEMBER_ID])
def test_a_member_without_a_name_is_left_to_the_client(answer: int) -> None:
    assert after(answer, OK, OK, instance_id=None) == ("" if answer else "me", False)
