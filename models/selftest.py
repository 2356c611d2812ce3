"""The self-test of a bundle: stored sessions, tokenized and run, must give the stored results.

The sessions are put together from the tokenizer's vocabulary, so no visitor's clicks are in a bundle.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np

from streamer.models.arrays import Float32
from streamer.models.extra_fields import PRICE, ExtraField, Number, Words
from streamer.models.runtime import Runtime
from streamer.models.tokenizer import Tokenizer
from streamer.schemas.click import KEPT_CLICKS, Click, Session, from_document, to_document

TOLERANCE: Final = 1e-5
"""For the embedding; the outputs that follow from it may differ by ten times as much."""
_STARTED_MS = 1_700_000_000_000
_LENGTHS = (1, 3, 8, 9, 16, 25, 32, 50, 64, 64)


class ExpectedOutputs(msgspec.Struct, frozen=True):
    embedding: list[float]
    logits: list[float]
    novelty: float


class SelfTest(msgspec.Struct, frozen=True):
    sessions: list[dict[str, Any]]
    """Each as `to_document` gives it."""
    expected: list[ExpectedOutputs]


def make(tokenizer: Tokenizer, runtime: Runtime) -> bytes:
    """Canonical JSON."""
    sessions = [_session(tokenizer, i, length) for i, length in enumerate(_LENGTHS)]
    results = runtime.run_all(tokenizer.encode(sessions))
    expected = [
        ExpectedOutputs(embedding.tolist(), logits.tolist(), float(novelty))
        for embedding, logits, novelty in zip(
            results.embeddings, results.logits, results.novelty, strict=True
        )
    ]
    return (
        msgspec.json.format(
            msgspec.json.encode(SelfTest(list(map(to_document, sessions)), expected)), indent=1
        )
        + b"\n"
    )


def check(data: bytes, tokenizer: Tokenizer, runtime: Runtime) -> None:
    """Raises ValueError if a result isn't as stored."""
    try:
        stored = msgspec.json.decode(data, type=SelfTest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"selftest.json can't be read: {error}") from None
    if not stored.sessions or len(stored.sessions) != len(stored.expected):
        raise ValueError("selftest.json needs a result for each of its sessions, and at least one")
    try:
        results = runtime.run_all(tokenizer.encode(list(map(from_document, stored.sessions))))
    except Exception as error:  # onnxruntime raises classes of its own, without a common base
        raise ValueError(f"the self-test can't be run ({type(error).__name__})") from None
    for i, expected in enumerate(stored.expected):
        _compare(f"embedding of session {i}", results.embeddings[i], expected.embedding, TOLERANCE)
        _compare(f"logits of session {i}", results.logits[i], expected.logits, 10 * TOLERANCE)
        _compare(f"novelty of session {i}", results.novelty[i : i + 1], [expected.novelty], 10 * TOLERANCE)


def _compare(what: str, found: Float32, stored: list[float], tolerance: float) -> None:
    wanted = np.array(stored, np.float64)
    if wanted.shape != found.shape:
        raise ValueError(f"self-test: the {what} has {len(found)} numbers, stored are {len(wanted)}")
    if not np.allclose(found, wanted, rtol=tolerance, atol=tolerance):
        worst = float(np.abs(found - wanted).max())
        raise ValueError(f"self-test: the {what} is off by {worst:.2g}, expected at most {tolerance:.0e}")


def _session(tokenizer: Tokenizer, number: int, length: int) -> Session:
    """`length` clicks that walk through the vocabulary, each session with a stride of its own."""
    stride, at = number + 1, _STARTED_MS + number * 3_700_000
    clicks = []
    for i in range(length):
        at += (i * stride * 997) % 90_000
        clicks.append(_click(tokenizer, i * stride, at))
    return Session(
        session_id=f"{number:032x}",
        visitor_id=f"self-test-{number}",
        user_id=None,
        started_at=clicks[0].timestamp,
        ended_at=at,
        closed_at=at,
        event_count=length + 100 * (length == KEPT_CLICKS),
        close_reason="gap",
        is_bot=False,
        clicks=clicks,
    )


def _click(tokenizer: Tokenizer, i: int, at: int) -> Click:
    def learnt(field: str, every: int = 1) -> str | None:
        values = tokenizer.vocabularies[field].values
        return values[i % len(values)] if values and i % every == 0 else None

    return Click(
        timestamp=at,
        event_id=f"self-test-{i}",
        event_type=learnt("event_type") or "page_view",
        page_type=learnt("page_type"),
        path=learnt("path_3") or learnt("path_2") or learnt("path_1"),
        dwell_ms=None if i % 3 else (i * 811) % 60_000,
        search_query=None if i % 4 else f"word{i % 7} never learnt",
        element=learnt("element", 2),
        category=learnt("category", 2),
        product_id=learnt("product_id", 3),
        device=learnt("device"),
        referrer=learnt("referrer"),
        price=_price(tokenizer, i),
        extras={each.name: _extra(each, i) for each in tokenizer.extras.fields if each.name != PRICE} or None,
    )


def _price(tokenizer: Tokenizer, i: int) -> float | None:
    """None if no field reads it."""
    read = (each for each in tokenizer.extras.fields if isinstance(each, Number) and each.name == PRICE)
    return next((_within(each, i) for each in read), None)


def _within(number: Number, i: int) -> float:
    """In each bucket in turn."""
    edges = (*number.edges, number.edges[-1] + 1) if number.edges else (0.0,)
    return edges[i % len(edges)]


def _extra(field: ExtraField, i: int) -> str:
    if isinstance(field, Number):
        return str(_within(field, i))
    if isinstance(field, Words):
        return f"word{i % 7} of title {i % 11}"
    values = field.vocabulary.values
    return values[i % len(values)] if values and i % 4 else f"never learnt {i % 13}"
