"""Of messages of a kind one is logged in a while, with the number of the others."""

from __future__ import annotations

import logging

import pytest

from streamer.kafka.aiokafka_overrides.install import install_overrides
from streamer.kafka.aiokafka_overrides.repeated_messages import EVERY_S, RepeatedMessages


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def record(text: str, *arguments: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", level, "client.py", 1, text, arguments, None)


def test_the_first_is_logged_and_the_next_after_a_while_counts_the_others() -> None:
    clock = Clock()
    collapse = RepeatedMessages(clock)
    assert collapse.filter(record("no connection to node %s", 1))
    assert [collapse.filter(record("no connection to node %s", node)) for node in (1, 2, 1)] == [False] * 3
    clock.now += EVERY_S
    later = record("no connection to node %s", 2)
    assert collapse.filter(later)
    assert later.getMessage() == "no connection to node 2 (3 more like this since)"


def test_messages_of_another_kind_are_logged() -> None:
    collapse = RepeatedMessages(Clock())
    kinds = [record("a %s", 1), record("b %s", 1), record("a %s", 1, level=logging.WARNING)]
    assert all(collapse.filter(one) for one in kinds)


def test_information_is_never_left_out() -> None:
    collapse = RepeatedMessages(Clock())
    assert all(collapse.filter(record("joined", level=logging.INFO)) for _ in range(3))


def test_it_is_what_every_client_logs_through(caplog: pytest.LogCaptureFixture) -> None:
    install_overrides()
    install_overrides()
    for number in range(100):
        logging.getLogger("aiokafka").error("a test of repeated messages: %s", number)
    assert [one.getMessage() for one in caplog.records] == ["a test of repeated messages: 0"]
