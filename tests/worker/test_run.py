"""What a worker asks the brokers before it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka.errors import KafkaError, KafkaTimeoutError

from streamer.settings import load_settings
from streamer.worker import run
from streamer.worker.run import StartError, answered

SETTINGS = load_settings(environ={})


def asking(outcomes: Iterator[KafkaError | int]) -> int:
    async def ask() -> int:
        outcome = next(outcomes)
        if isinstance(outcome, KafkaError):
            raise outcome
        return outcome

    return asyncio.run(answered(SETTINGS, ask))


def test_a_broker_that_fails_meanwhile_is_asked_again() -> None:
    assert asking(iter([KafkaTimeoutError(), 7])) == 7


def test_brokers_that_go_on_failing_are_the_end_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "CHECKED_WITHIN_S", -1)
    with pytest.raises(StartError, match="KafkaTimeoutError"):
        asking(iter([KafkaTimeoutError()]))
