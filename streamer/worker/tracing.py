"""OpenTelemetry spans of what a worker publishes: from clicks, by links, to a session and its records.

- A session's trace id is its session_id. So whether it is traced is the same after a crash, every record of
  it is in one trace, and it is found by what the records say.
- Its span links to spans of its clicks, by the contexts that `pipeline.trace_context` keeps. It has a child
  for each record, whose context goes along in that record's header. Records of other sessions have a context
  too, which says that it isn't recorded.
- Spans end with the transaction that their records are in. Of a transaction with such a session there is a
  span in a trace of its own, with links to theirs.
- Nothing of a customer is in a span but the session_id: no visitor, no query, no address, no intent.
- Spans wait in memory for a thread of the SDK, which drops some where a collector is slow or away.

Names and attributes: OpenTelemetry's semantic conventions 1.44 for messaging and Kafka, in development.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, TraceIdRatioBased
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue
from prometheus_client import Counter

import streamer
from streamer.models.scorer import Scored, ScoreError
from streamer.pipeline.dead_letters import Header
from streamer.pipeline.trace_context import TRACEPARENT, TraceContexts, taken_from
from streamer.schemas.click import Session
from streamer.settings import Settings
from streamer.worker.metrics import Metrics

LAST_EXPORT_S = 2.0
"""How long the end of a worker waits for spans to be exported."""
_AT_A_STRETCH = 50
"""Sessions after which others in the event loop have their turn."""
_NOTHING = Context()

T = TypeVar("T")


class _Ids(IdGenerator):
    """Span ids of chance, and the trace id that was set last."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.trace_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self._chance.getrandbits(64) or 1  # 0 is none

    def new_trace_id(self) -> int:
        return self._chance.randrange(1, 1 << 128)


class _Counted(SpanExporter):
    """An exporter whose results are counted."""

    def __init__(self, exporter: SpanExporter, spans: Counter) -> None:
        self._exporter = exporter
        self._exported, self._failed = spans.labels("exported"), spans.labels("failed")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        (self._exported if result is SpanExportResult.SUCCESS else self._failed).inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class Tracing:
    """Of one worker process. The SDK reads variables of the environment, too."""

    def __init__(
        self,
        settings: Settings,
        model_version: str,
        metrics: Metrics,
        now_ns: Callable[[], int],
        chance: random.Random,
    ) -> None:
        """`now_ns`: nanoseconds UTC. `chance`: what span ids come of."""
        self.contexts = TraceContexts(metrics.malformed_contexts.inc)
        self.now_ns = now_ns
        self.ids = _Ids(chance)
        self.source, self.group = settings.session_source, settings.app.id
        self._ended = metrics.spans.labels("ended")
        self._sampled_below = TraceIdRatioBased(settings.tracing.sample_ratio).bound
        own = {
            "service.name": settings.app.id,
            "service.version": streamer.__version__,
            "streamer.model_version": model_version,
        }
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # what is not to be recorded gets no span
            resource=Resource.create(own).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
            id_generator=self.ids,
            span_limits=SpanLimits(max_links=settings.tracing.max_links),
        )
        exporter = _Counted(OTLPSpanExporter(endpoint=settings.tracing.endpoint), metrics.spans)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: Tracer = self._provider.get_tracer("streamer", streamer.__version__)

    def samples(self, trace_id: int) -> bool:
        """Whether a trace is among those that are recorded whatever its clicks say."""
        return trace_id & TraceIdRatioBased.TRACE_ID_LIMIT < self._sampled_below

    def commit(self, partition: int, sessions: Sequence[Session]) -> CommitTrace:
        """The spans of a commit, as a context that lasts as long as it does."""
        return CommitTrace(self, partition, sessions)

    def end(self, span: Span, at_ns: int) -> None:
        """Leave it to the exporter."""
        span.end(at_ns)
        self._ended.inc()

    async def stop(self) -> None:
        """Export what waits, as far as that takes no longer than LAST_EXPORT_S."""
        # A daemon: the process may end before it does.
        stopping = threading.Thread(target=self._provider.shutdown, daemon=True)
        stopping.start()
        await asyncio.to_thread(stopping.join, LAST_EXPORT_S)


class CommitTrace:
    """The spans of the sessions that one commit publishes, and its own.

    When it begins, the sessions' clicks are rid of their contexts.
    """

    def __init__(self, tracing: Tracing, partition: int, sessions: Sequence[Session]) -> None:
        self._tracing = tracing
        self._partition = str(partition)
        self._sessions = sessions
        self._traced: list[Span | list[Header]] = []
        """By session; or, where it isn't recorded, the headers of its records."""
        self._of_records: list[Span] = []
        self._scored: Sequence[Scored | ScoreError] = ()
        self._began_ns = self._scored_ns = tracing.now_ns()

    async def __aenter__(self) -> Self:
        async for session in _in_turns(self._sessions):
            self._traced.append(self._of_session(session) or self._not_recorded(session))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        spans = [span for span in self._traced if isinstance(span, Span)]
        if not spans:
            return
        spans = [*spans, *self._of_records, *self._of_commit(spans)]
        ended_ns = self._tracing.now_ns()
        async for span in _in_turns(spans):
            if kind is not None:
                _note_failure(span, kind.__name__)
            self._tracing.end(span, ended_ns)

    def scored(self, results: Sequence[Scored | ScoreError]) -> None:
        """Note that the sessions have been scored, and how."""
        self._scored, self._scored_ns = results, self._tracing.now_ns()
        for span, result in zip(self._traced, results, strict=True):
            if isinstance(span, Span) and isinstance(result, ScoreError):
                _note_failure(span, result.reason)

    async def headers(self, topic: str) -> list[list[Header]]:
        """Of the records that go to a topic now: one for each session that could be scored."""
        found: list[list[Header]] = []
        now_ns = self._tracing.now_ns()
        attributes = self._attributes("send", "send", topic)
        async for traced, result in _in_turns(zip(self._traced, self._scored, strict=True)):
            if isinstance(result, ScoreError):
                continue
            if isinstance(traced, Span):
                kind, parent = SpanKind.PRODUCER, set_span_in_context(traced, _NOTHING)
                child = self._tracing.tracer.start_span(
                    f"send {topic}", parent, kind, attributes, start_time=now_ns
                )
                self._of_records.append(child)
                traced = [(TRACEPARENT, _traceparent(child.get_span_context()))]
            found.append(traced)
        return found

    def _of_session(self, session: Session) -> Span | None:
        contexts = taken_from(session.clicks)
        trace_id = int(session.session_id, 16)
        if not contexts and not self._tracing.samples(trace_id):
            return None
        attributes = self._attributes("process", "process") | {
            "messaging.consumer.group.name": self._tracing.group,
            "messaging.batch.message_count": session.event_count,
            "session.id": session.session_id,
            "streamer.session.started_at": session.started_at,
            "streamer.session.ended_at": session.ended_at,
            "streamer.session.closed_at": session.closed_at,
            "streamer.session.close_reason": session.close_reason,
            "streamer.session.is_final": session.is_final,
            "streamer.session.revision": session.revision,
            "streamer.session.is_bot": session.is_bot,
        }
        links = [Link(_span_context(context)) for context in contexts]
        return self._root("process", trace_id, SpanKind.CONSUMER, attributes, links)

    def _not_recorded(self, session: Session) -> list[Header]:
        span_id = self._tracing.ids.generate_span_id()
        return [(TRACEPARENT, f"00-{session.session_id}-{span_id:016x}-00".encode())]

    def _of_commit(self, sessions: Sequence[Span]) -> list[Span]:
        """Of the transaction, and of the scoring before it, which is over."""
        attributes = self._attributes("settle", "commit") | {
            "messaging.consumer.group.name": self._tracing.group,
            "streamer.commit.sessions": len(self._sessions),
        }
        links = [Link(span.get_span_context()) for span in sessions]
        trace_id = self._tracing.ids.new_trace_id()
        commit = self._root("commit", trace_id, SpanKind.CLIENT, attributes, links)
        parent = set_span_in_context(commit, _NOTHING)
        score = self._tracing.tracer.start_span("score", parent, start_time=self._began_ns)
        self._tracing.end(score, self._scored_ns)
        return [commit]

    def _root(
        self,
        operation: str,
        trace_id: int,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        links: Sequence[Link],
    ) -> Span:
        self._tracing.ids.trace_id = trace_id
        name = f"{operation} {self._tracing.source}"
        return self._tracing.tracer.start_span(name, _NOTHING, kind, attributes, links, self._began_ns)

    def _attributes(
        self, operation_type: str, operation: str, topic: str | None = None
    ) -> dict[str, AttributeValue]:
        """Of an operation on a topic; none: the source."""
        return {
            "messaging.system": "kafka",
            "messaging.operation.type": operation_type,
            "messaging.operation.name": operation,
            "messaging.destination.name": topic or self._tracing.source,
            "messaging.destination.partition.id": self._partition,
        }


def _traceparent(context: SpanContext) -> bytes:
    return b"00-%032x-%016x-%02x" % (context.trace_id, context.span_id, context.trace_flags)


def _span_context(traceparent: str) -> SpanContext:
    """Of a context as `TraceContexts` keeps it."""
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))


def _note_failure(span: Span, reason: str) -> None:
    span.set_status(Status(StatusCode.ERROR))
    span.set_attribute("error.type", reason)


async def _in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items; others in the event loop have their turn after some."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _AT_A_STRETCH == 0:
            await asyncio.sleep(0)
