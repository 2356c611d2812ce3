"""Scoring alone: the JSON clicks of one session to embedding and labels, by the worker's own code.

One at a time, for the latency: decoding, sessionizing, scoring, at the median length and at the longest
shape. And together, for the rate: closed sessions of a day, 2,000 at once as one commit may hold. The rate is
of CPU time, in turn with a text encoder that reads the same sessions as text, one by one; latency is wall
time, which means something on a quiet machine only, and CPU time. What sessions cost is computed from prices
that are assumed, beside one call of a language model for each session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import orjson

from benchmarks.clicks import DAY_START_MS, clicks
from benchmarks.text_encoder import text_encoder
from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Sessionizer
from streamer.models.bundle import Bundle, default_bundle, load_bundle
from streamer.models.labelling.rendering import rendering
from streamer.models.scorer import Scorer
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.partition import MAX_TAKE
from streamer.pipeline.scrub import scrub
from streamer.schemas.click import Session

LONGEST = 64
TEXTS = 100

USD_PER_CORE_HOUR = 0.0408
"""Assumed: AWS EC2 m7g.large on demand in us-east-1, 0.0816 USD an hour for two."""
USD_PER_MILLION_TOKENS_IN, USD_PER_MILLION_TOKENS_OUT = 0.15, 0.60
"""Assumed: OpenAI's list price of gpt-4o-mini, one of the cheapest of its time."""
PROMPT_TOKENS, ANSWER_TOKENS = 900, 60
"""Assumed: instructions with some twenty intents, and one of them with a quote."""
CHARACTERS_PER_TOKEN = 4.0
"""Assumed: OpenAI's rule of thumb for English."""


@dataclass(frozen=True)
class Figures:
    median_length: int
    p50_ms: float
    """One session of the median length, JSON to labels."""
    p99_ms: float
    p50_cpu_ms: float
    p99_cpu_ms: float
    longest_p50_ms: float
    """One session of 64 clicks."""
    longest_p99_ms: float
    longest_p50_cpu_ms: float
    longest_p99_cpu_ms: float
    sessions_per_cpu_s: float
    """Tokenizer, encoder, classifier, calibration; sessions in buckets of length."""
    us_per_session: float
    text_encoder_us: float
    text_encoder_cpu_vs_scoring: float
    usd_per_billion_sessions: float
    """Of CPU, for scoring alone."""
    llm_usd_per_billion_sessions: float
    """Of one call each."""


def measure(sessions: int, repeats: int) -> Figures:
    """`sessions` of a day scored together, and `repeats` times one alone."""
    bundle = load_bundle(default_bundle())
    closed = list(closed_sessions(sessions))
    length = int(median(len(session.clicks) for session in closed))
    usual, usual_cpu = _times(bundle, length, repeats)
    longest, longest_cpu = _times(bundle, LONGEST, repeats)
    us, text_us, ratio = _beside_text(bundle, closed)
    return Figures(
        median_length=length,
        p50_ms=_quantile(usual, 0.5),
        p99_ms=_quantile(usual, 0.99),
        p50_cpu_ms=_quantile(usual_cpu, 0.5),
        p99_cpu_ms=_quantile(usual_cpu, 0.99),
        longest_p50_ms=_quantile(longest, 0.5),
        longest_p99_ms=_quantile(longest, 0.99),
        longest_p50_cpu_ms=_quantile(longest_cpu, 0.5),
        longest_p99_cpu_ms=_quantile(longest_cpu, 0.99),
        sessions_per_cpu_s=round(1e6 / us),
        us_per_session=round(us, 1),
        text_encoder_us=round(text_us),
        text_encoder_cpu_vs_scoring=round(ratio, 1),
        usd_per_billion_sessions=round(1e3 * us / 3600 * USD_PER_CORE_HOUR, 2),
        llm_usd_per_billion_sessions=round(1e3 * _llm_usd(closed)),
    )


def _llm_usd(sessions: Sequence[Session]) -> float:
    """For a million sessions like these."""
    characters = [len(rendering(session, scrub)) for session in sessions[:TEXTS]]
    asked = PROMPT_TOKENS + float(np.mean(characters)) / CHARACTERS_PER_TOKEN
    return asked * USD_PER_MILLION_TOKENS_IN + ANSWER_TOKENS * USD_PER_MILLION_TOKENS_OUT


def closed_sessions(count: int) -> Iterator[Session]:
    """Closed sessions as the worker scores them."""
    decode, sessionizer = ClickDecoder().decode, Sessionizer(SessionRules())
    given = 0
    for offset, (_, value) in enumerate(clicks(12 * count, max(count, 100))):
        arrived = decode(value, None, "")
        assert arrived is not None
        sessionizer.arrive(arrived.click.timestamp)
        sessionizer.add(arrived.visitor_id, arrived.click, offset)
        while sessionizer.has_due:
            for session in sessionizer.close_due(MAX_TAKE):
                given += 1
                yield session
                if given == count:
                    return
    yield from sessionizer.drain()


def _beside_text(bundle: Bundle, sessions: Sequence[Session]) -> tuple[float, float, float]:
    """CPU microseconds a session, those of the text encoder, and their ratio: medians of five rounds."""
    scorer, encode = Scorer(bundle), text_encoder()
    texts = [rendering(session, scrub) for session in sessions[:TEXTS]]

    def together() -> None:
        for start in range(0, len(sessions), MAX_TAKE):
            scorer.score(sessions[start : start + MAX_TAKE])

    def as_text() -> None:
        for text in texts:
            encode(text)

    pairs = [(_cpu_us(together, len(sessions)), _cpu_us(as_text, len(texts))) for _ in range(5)]
    ours, theirs = zip(*pairs, strict=True)
    return median(ours), median(theirs), median(text_us / us for us, text_us in pairs)


def _cpu_us(work: Callable[[], None], count: int) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) / count * 1e6


def _times(bundle: Bundle, length: int, repeats: int) -> tuple[list[float], list[float]]:
    """Wall and CPU ms of each session alone, from the JSON of its clicks to its labels."""
    decode, scorer = ClickDecoder().decode, Scorer(bundle)
    wall, cpu = [], []
    for number in range(repeats):
        values = _of_one_visitor(length, number)
        began, spent = time.perf_counter(), time.process_time()
        sessionizer = Sessionizer(SessionRules())
        for offset, value in enumerate(values):
            arrived = decode(value, None, "")
            assert arrived is not None
            sessionizer.arrive(arrived.click.timestamp)
            sessionizer.add(arrived.visitor_id, arrived.click, offset)
        scorer.score(list(sessionizer.drain()))
        wall.append((time.perf_counter() - began) * 1e3)
        cpu.append((time.process_time() - spent) * 1e3)
    few = repeats // 10  # they fill caches
    return wall[few:], cpu[few:]


def _of_one_visitor(length: int, seed: int) -> list[bytes]:
    """Clicks of one session, ten seconds apart."""
    made = [orjson.loads(value) for _, value in clicks(length, visitors=8, seed=seed)]
    same = {"visitor_id": "v000000"}
    return [orjson.dumps(c | same | {"timestamp": DAY_START_MS + 10_000 * i}) for i, c in enumerate(made)]


def _quantile(times: Sequence[float], share: float) -> float:
    return round(float(np.quantile(times, share)), 3)
