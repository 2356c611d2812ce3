"""Traces: from clicks' own contexts by links to sessions, and from these on by headers of their records."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streamer.kafka.ports import free_ports
from streamer.settings import Settings, load_settings
from tests.conftest import FreshSettings, RunStreamer
from tests.worker.live import (
    Worker,
    as_messages,
    committed,
    environment,
    metric,
    oracle,
    published,
    send,
    set_up,
    some_clicks,
    wait_until,
)
from tests.worker.otlp_collector import Collector, attributes, environ_for

TRACEPARENT = "traceparent"
MALFORMED = b"00-jane@mail.example-01"
Contexts = Mapping[str, bytes]
"""Headers by event_id."""


def send_traced(settings: Settings, clicks: Sequence[dict[str, Any]], contexts: Contexts) -> None:
    """Append clicks, in order, those with a context with its header."""

    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=20)
        await producer.start()
        try:
            for click, (key, value) in zip(clicks, as_messages(clicks), strict=True):
                context = contexts.get(click["event_id"])
                headers = [("x-own", b"1"), *([(TRACEPARENT, context)] if context is not None else [])]
                await producer.send(settings.topics.clicks, value, key=key, headers=headers)
        finally:
            await producer.stop()

    asyncio.run(run())


def some_contexts(clicks: Sequence[dict[str, Any]], seed: int) -> dict[str, bytes]:
    """Of a third of the visitors half of the clicks have one; of others some aren't recorded, or are none."""
    chance, contexts = random.Random(seed), dict[str, bytes]()
    for click in clicks:
        of_visitor = int(click["visitor_id"][1:]) % 3
        if of_visitor < 2 and chance.random() < 0.5:
            flags = b"01" if of_visitor == 0 else b"00"
            context = b"00-%032x-%016x-%s" % (chance.getrandbits(128), chance.getrandbits(64), flags)
            contexts[click["event_id"]] = context
        elif of_visitor == 2 and chance.random() < 0.1:
            contexts[click["event_id"]] = MALFORMED
    return contexts


def links_of(span: Any) -> set[tuple[str, str]]:
    return {(link.trace_id.hex(), link.span_id.hex()) for link in span.links}


def test_a_producers_trace_leads_to_the_session_and_on_to_who_reads_its_records(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    """Also when another worker has read the first clicks of the session."""
    tracing = {"tracing.enabled": True, "tracing.sample_ratio": 0, "tracing.max_links": 3}
    settings = fresh_settings(tracing | {"worker.metrics_port": free_ports(1)[0]})
    clicks = some_clicks(30, seed=97)
    contexts = some_contexts(clicks, seed=98)
    half = len(clicks) // 2
    set_up(settings)
    with Collector() as collector:
        send_traced(settings, clicks[:half], contexts)
        first = Worker(settings, environ=collector.environ)
        port = settings.worker.metrics_port
        wait_until(lambda: metric(port, "streamer_clicks_total", end="received") == half)
        malformed = sum(contexts.get(click["event_id"]) == MALFORMED for click in clicks[:half])
        assert metric(port, "streamer_trace_contexts_malformed_total") == malformed > 0
        first.signal(signal.SIGTERM)
        assert first.end() == 0, first.log
        send_traced(settings, clicks[half:], contexts)
        drain = Worker(settings, "--drain", environ=collector.environ)
        assert drain.end() == 0, drain.log
    assert published(settings) == oracle(clicks)
    verify = run_streamer("verify", settings=settings)
    assert verify.returncode == 0, verify.stdout

    wanted = _check_links(collector, settings, clicks, contexts)
    _check_headers(collector, settings)
    assert {each["service.name"] for each in collector.resources} == {settings.app.id}
    told = b"".join(collector.requests)
    assert not [each for each in (b"bank.example", b"mortgages", b"jane@", b"page_view") if each in told]
    values = {str(value) for span in collector.spans for value in attributes(span).values()}
    assert not values & {click["visitor_id"] for click in clicks}
    first_half = {contexts.get(click["event_id"]) for click in clicks[:half]}
    assert any(len(own & first_half) not in (0, len(own)) for own in wanted)


def _check_links(
    collector: Collector, settings: Settings, clicks: Sequence[dict[str, Any]], contexts: Contexts
) -> list[set[bytes]]:
    """The sessions with a recorded click, and no others, have a span, with links to the last of them.

    Returns the contexts of each.
    """
    spans = {span.trace_id.hex(): span for span in collector.named(f"process {settings.topics.clicks}")}
    wanted = dict[str, list[bytes]]()
    for record in committed(settings, settings.topics.intents).decoded():
        own = [
            context
            for click in sorted(clicks, key=lambda each: (each["timestamp"], each["event_id"]))
            if click["visitor_id"] == record["visitor_id"]
            and record["started_at"] <= click["timestamp"] <= record["ended_at"]
            and (context := contexts.get(click["event_id"], b"")).endswith(b"01")
            and context != MALFORMED
        ]
        if own:
            wanted[record["session_id"]] = own
    assert spans.keys() == wanted.keys()
    assert any(len(own) > 3 for own in wanted.values())
    for session_id, own in wanted.items():
        span = spans[session_id]
        assert links_of(span) == {tuple(each.decode().split("-")[1:3]) for each in own[-3:]}
        assert span.dropped_links_count == max(len(own) - 3, 0)
        found = attributes(span)
        assert found["session.id"] == session_id
        assert found["messaging.consumer.group.name"] == settings.app.id
    return [set(own) for own in wanted.values()]


def _check_headers(collector: Collector, settings: Settings) -> None:
    """Each record names the span it was sent in, whose parent is its session's."""
    processes = {span.trace_id: span for span in collector.named(f"process {settings.topics.clicks}")}
    sent = {span.span_id.hex(): span for span in collector.spans if span.name.startswith("send ")}
    recorded = Counter[str]()
    for topic in (settings.topics.embeddings, settings.topics.intents, settings.topics.visitors):
        output = committed(settings, topic)
        for record, text in zip(output.decoded(), output.headers(TRACEPARENT), strict=True):
            version, trace_id, span_id, flags = text.split("-")
            assert (version, trace_id) == ("00", record["session_id"])
            recorded[flags] += 1
            if flags == "00":
                assert bytes.fromhex(trace_id) not in processes
                continue
            span = sent[span_id]
            assert span.name == f"send {topic}"
            assert span.parent_span_id == processes[bytes.fromhex(trace_id)].span_id
    assert recorded["00"] > 0
    assert recorded["01"] == len(sent) > 0
    committing = collector.named(f"commit {settings.topics.clicks}")
    assert {link for span in committing for link in links_of(span)} <= {
        (span.trace_id.hex(), span.span_id.hex()) for span in processes.values()
    }
    assert committing


@pytest.mark.parametrize("is_there", [True, False])
def test_no_click_waits_for_a_collector(fresh_settings: FreshSettings, is_there: bool) -> None:
    """One that never answers, or none."""
    settings = fresh_settings({"tracing.enabled": True, "tracing.sample_ratio": 1})
    clicks = some_clicks(20, seed=93)
    set_up(settings)
    send(settings, as_messages(clicks))
    with Collector(answers=False) as silent:
        worker = Worker(
            settings, "--drain", environ=silent.environ if is_there else environ_for(free_ports(1)[0])
        )
        assert worker.end(30) == 0, worker.log
        assert bool(silent.requests) == is_there
    assert published(settings) == oracle(clicks)
    assert set(committed(settings, settings.topics.intents).headers(TRACEPARENT)) != set()


def test_without_tracing_records_have_no_headers_whatever_their_clicks_have(
    fresh_settings: FreshSettings,
) -> None:
    settings = fresh_settings()
    clicks = some_clicks(5, seed=94)
    set_up(settings)
    send_traced(settings, clicks, some_contexts(clicks, seed=95))
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    assert published(settings) == oracle(clicks)
    for topic in (settings.topics.embeddings, settings.topics.intents, settings.topics.visitors):
        assert {tuple(record.headers) for record in committed(settings, topic).records} == {()}


def test_a_worker_that_lacks_the_extra_says_how_to_get_it_before_it_asks_any_broker() -> None:
    broker = f"127.0.0.1:{free_ports(1)[0]}"
    overrides = {"tracing.enabled": True, "kafka.bootstrap_servers": broker}
    settings = load_settings(overrides=overrides, environ={})
    program = "import sys; sys.modules['opentelemetry.sdk'] = None; from streamer.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", program, "worker", "--drain"],
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 1
    last = run.stderr.splitlines()[-1]
    assert "tracing.enabled" in last
    assert "[otel]" in last
    assert "pip install" in last
