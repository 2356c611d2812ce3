"""Logs go to standard error, one JSON object a line unless a terminal looks on, and keep secrets out."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from streamer.logs import configure_logging
from streamer.settings import LogSettings


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


def logged(settings: LogSettings) -> tuple[Any, io.StringIO]:
    stream = io.StringIO()
    configure_logging(settings, stream)
    return structlog.get_logger("streamer.test"), stream


def test_without_a_terminal_a_line_is_one_json_object() -> None:
    log, stream = logged(LogSettings())
    log.info("worker.started", partitions=4)
    logging.getLogger("some.library").warning("odd: %s", "x")
    own, library = map(json.loads, stream.getvalue().splitlines())
    assert (own["event"], own["partitions"], own["level"]) == ("worker.started", 4, "info")
    assert (library["event"], library["logger"], library["level"]) == ("odd: x", "some.library", "warning")
    assert own["timestamp"].endswith("Z")


def test_console_format_is_readable() -> None:
    log, stream = logged(LogSettings(format="console"))
    log.info("worker.started", partitions=4)
    assert "worker.started" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_level_leaves_out_what_is_below() -> None:
    log, stream = logged(LogSettings(level="warning"))
    log.info("hidden")
    log.warning("shown")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["shown"]


def test_exceptions_are_logged_without_the_values_of_variables() -> None:
    log, stream = logged(LogSettings())
    password = "hunter2"
    try:
        raise ValueError(f"length {len(password)}")
    except ValueError:
        log.exception("failed")
    assert "ValueError: length 7" in json.loads(stream.getvalue())["exception"]
    assert "hunter2" not in stream.getvalue().replace('password = "hunter2"', "")


@pytest.mark.parametrize("library", ["aiokafka", "aiokafka.conn", "faust", "mode"])
def test_libraries_never_print_requests_and_messages_whole(library: str) -> None:
    """At DEBUG aiokafka prints the bytes of the login, and every record."""
    _, stream = logged(LogSettings(level="debug"))
    logging.getLogger(library).debug("Request: the password")
    logging.getLogger(library).info("joined")
    assert "password" not in stream.getvalue()
    assert "joined" in stream.getvalue()


def test_of_a_request_that_is_not_http_the_kind_of_mistake_is_logged_and_not_its_bytes() -> None:
    _, stream = logged(LogSettings(level="debug"))
    mistake = ValueError("Invalid char in url path: b'GET /v1/users/u-4711'")
    logging.getLogger("aiohttp.server").error("Error handling request from %s", "10.0.0.1", exc_info=mistake)
    line = json.loads(stream.getvalue())
    assert line["event"] == "Error handling request from 10.0.0.1: ValueError"
    assert "u-4711" not in stream.getvalue()


def test_standard_error_is_looked_up_for_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.stderr", first)
    configure_logging(LogSettings())
    first.close()
    monkeypatch.setattr("sys.stderr", second)
    logging.getLogger("some.library").warning("still there")
    assert json.loads(second.getvalue())["event"] == "still there"
