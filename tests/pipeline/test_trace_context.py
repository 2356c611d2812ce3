"""Trace contexts in headers of clicks: which are kept, and with what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from streamer.pipeline.trace_context import TRACEPARENT, TraceContexts, taken_from, with_context
from streamer.schemas.click import Click
from streamer.schemas.extras import MOST_EXTRAS

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RECORDED = f"00-{TRACE}-{SPAN}-01"
CLICK = Click(0, "e", "page_view")


class Reader:
    """Of one header, and how often it was malformed."""

    def __init__(self) -> None:
        self.malformed = 0
        self._contexts = TraceContexts(self._count)

    def _count(self) -> None:
        self.malformed += 1

    def of(self, *values: bytes | None) -> str | None:
        return self._contexts.of([(TRACEPARENT, value) for value in values])  # type: ignore[misc]


@pytest.mark.parametrize(
    "value",
    [RECORDED, f"00-{TRACE}-{SPAN}-03", f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-ff-more-of-it"],
)
def test_a_context_of_a_recorded_trace_is_kept_as_version_00(value: str) -> None:
    reader = Reader()
    assert (reader.of(value.encode()), reader.malformed) == (RECORDED, 0)


@pytest.mark.parametrize("value", [None, f"00-{TRACE}-{SPAN}-00".encode(), f"00-{TRACE}-{SPAN}-02".encode()])
def test_a_trace_that_is_not_recorded_has_nothing_to_link_to(value: bytes | None) -> None:
    reader = Reader()
    assert (reader.of(value), reader.malformed) == (None, 0)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"jane@mail.example",
        b"\xff\xfe\x00",
        RECORDED.upper().encode(),
        f"ff-{TRACE}-{SPAN}-01".encode(),
        f"00-{'0' * 32}-{SPAN}-01".encode(),
        f"00-{TRACE}-{'0' * 16}-01".encode(),
        f"{RECORDED}-more".encode(),
        f"{RECORDED}\n".encode(),
        RECORDED[:-1].encode(),
    ],
)
def test_what_is_no_context_is_counted_and_nothing_else(value: bytes) -> None:
    reader = Reader()
    assert (reader.of(value), reader.malformed) == (None, 1)


@given(st.from_regex(r"\A(00|01|ff|0[0-9a-g])-[0f1]{31,32}-[0e]{16}-0[0-9](-x)?\Z"))
def test_the_same_is_a_context_as_for_the_sdk(value: str) -> None:
    extracted = TraceContextTextMapPropagator().extract({TRACEPARENT: value})
    expected = trace.get_current_span(extracted).get_span_context()
    reader = Reader()
    found = reader.of(value.encode())
    assert (reader.malformed == 0) == expected.is_valid
    if found is not None:
        assert found == f"00-{expected.trace_id:032x}-{expected.span_id:016x}-01"
    assert (found is not None) == (expected.is_valid and expected.trace_flags.sampled)


def test_a_context_is_an_extra_among_others_where_there_is_room() -> None:
    extras = {f"properties.p{number}": "x" for number in range(MOST_EXTRAS)}
    assert with_context(None, RECORDED) == {TRACEPARENT: RECORDED}
    assert with_context({"page_title": "t"}, RECORDED) == {"page_title": "t", TRACEPARENT: RECORDED}
    assert with_context(extras, RECORDED) == extras


def test_contexts_are_taken_once_each_and_clicks_are_as_without_them() -> None:
    other = RECORDED.replace("b7-01", "b8-01")
    contexts = (RECORDED, None, other, RECORDED)
    clicks = [replace(CLICK, extras=with_context(None, each) if each else None) for each in contexts]
    clicks.append(replace(CLICK, extras={"page_title": "t"}))
    assert taken_from(clicks) == [RECORDED, other]
    assert [click.extras or None for click in clicks] == [None, None, None, None, {"page_title": "t"}]
    assert taken_from(clicks) == []
