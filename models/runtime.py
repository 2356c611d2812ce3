"""The two graphs under onnxruntime: one thread, and a few fixed shapes.

Results must not depend on who else is in a batch. With free shapes they do, in the last digits, so the
manifest pins one batch of zero-padded sessions per length bucket. Padding costs as much as clicks, and a
batch's fixed cost is shared by its sessions: narrower, larger and smaller shapes are used as well, but only
those that gave the same bits as the pinned one when they were tried, at loading.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from models.encoded import LENGTH_BUCKETS, Encoded, Float32
from models.fields import EVENT_FIELDS, SESSION_FIELDS
from models.queries import QUERY_BUCKETS, QUERY_GRAMS, QUERY_SLOTS
from models.timing import TIME_IDS

ENCODER_INPUTS = {
    "event_ids": ("tensor(int32)", ["batch", "clicks", len(EVENT_FIELDS)]),
    "dwell_z": ("tensor(float)", ["batch", "clicks"]),
    "query_slot": ("tensor(int32)", ["batch", "clicks"]),
    "query_ids": ("tensor(int32)", ["queries", QUERY_GRAMS]),
    "session_ids": ("tensor(int32)", ["batch", len(SESSION_FIELDS)]),
    "lengths": ("tensor(int32)", ["batch"]),
}
"""Arrays of `Encoded`, but for queries: those of a batch are one list whose row 0 is empty, and `query_slot`
says which row a click has."""

_WIDTHS = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64)
"""Half of all sessions have but a few clicks."""
_TIMES = 4
"""By how much sizes of batches differ, the pinned one among them. Larger ones gain nothing."""
_HEADS = (64, 8, 2)
"""Sizes of the classifier's batches. Alone, a session takes another path through the matrix library."""

_NO_QUERY = np.zeros((1, QUERY_GRAMS), np.int32)


class Shapes(NamedTuple):
    """Of one length bucket."""

    widths: dict[int, list[int]]
    """By the size of the encoder's batch, the largest first; narrowest first."""
    heads: tuple[int, ...]
    """Sizes of the classifier's batches, the largest first."""


class Outputs(NamedTuple):
    """N sessions, in the order of the `Encoded` they came from."""

    embeddings: Float32
    """[N, D]"""
    logits: Float32
    """[N, K]"""
    novelty: Float32
    """[N]"""


class Runtime:
    """Raises ValueError if the graphs aren't an encoder and a classifier that fit together."""

    def __init__(self, encoder: bytes, classifier: bytes, batch_of_length: Mapping[int, int]) -> None:
        self.batch_of_length = dict(batch_of_length)
        self._encoder, self._classifier = _session(encoder), _session(classifier)
        self.dim, self.intents = _check_signatures(self._encoder, self._classifier)
        self.shapes = {length: self._usable(length, n) for length, n in batch_of_length.items()}
        """Of each length bucket."""

    def run(self, encoded: Encoded) -> Outputs:
        """All sessions of one length bucket: the shortest first, so that few are padded much."""
        alone = len(encoded.rows) == 1
        by_length: Any = slice(1) if alone else np.argsort(encoded.lengths, kind="stable")
        found = self._run(_Sessions(encoded, by_length), self.shapes[encoded.event_ids.shape[1]])
        results = Outputs(*map(np.empty_like, found))
        for array, of_sorted in zip(results, found, strict=True):
            array[by_length] = of_sorted
        return results

    def _run(self, sessions: _Sessions, shapes: Shapes) -> Outputs:
        count = len(sessions.lengths)
        embeddings = np.empty((count, self.dim), np.float32)
        for start, end, size in _batches(count, tuple(shapes.widths)):
            longest = sessions.lengths[end - 1]
            width = next(width for width in shapes.widths[size] if longest <= width)
            (found,) = self._encoder.run(["embedding"], sessions.feed(start, end, width, size))
            embeddings[start:end] = found[: end - start]
        logits, novelty = np.empty((count, self.intents), np.float32), np.empty(count, np.float32)
        for start, end, size in _batches(count, shapes.heads):
            feed = {"embedding": _padded(embeddings[start:end], (size, self.dim))}
            of_logits, of_novelty = self._classifier.run(["logits", "novelty"], feed)
            logits[start:end], novelty[start:end] = of_logits[: end - start], of_novelty[: end - start]
        return Outputs(embeddings, logits, novelty)

    def _usable(self, length: int, batch: int) -> Shapes:
        """Of a length bucket: what gives the same bits as its pinned batch."""
        pinned = Shapes({batch: [length]}, (batch,))
        shorter = max((each for each in LENGTH_BUCKETS if each < length), default=0)
        sizes = sorted({_TIMES * batch, batch, batch // _TIMES or 1, 1}, reverse=True)
        tried = {
            width: _random_sessions(width, sizes[0])
            for width in (*(each for each in _WIDTHS if shorter < each < length), length)
        }
        expected = {width: self._bits(sessions, pinned) for width, sessions in tried.items()}

        def agrees(width: int, shapes: Shapes) -> bool:
            found = self._bits(tried[width], shapes)
            return found is not None and found == expected[width]

        widths = {
            size: [width for width in tried if agrees(width, Shapes({size: [width]}, pinned.heads))]
            for size in sizes
        }
        widths = {size: found for size, found in widths.items() if length in found}
        heads = _HEADS if agrees(length, Shapes(pinned.widths, _HEADS)) else pinned.heads
        return Shapes(widths or pinned.widths, heads)

    def _bits(self, sessions: _Sessions, shapes: Shapes) -> list[bytes] | None:
        """Of the results in these shapes; None if the graphs can't be run."""
        try:
            return [array.tobytes() for array in self._run(sessions, shapes)]
        except Exception:  # a class of onnxruntime's own; a bundle's self-test says what is wrong
            return None


class _Sessions:
    """Sessions of one length bucket in a given order, to be fed in batches."""

    def __init__(self, encoded: Encoded, order: Any) -> None:
        self.lengths = encoded.lengths[order]
        self._of_clicks = {"event_ids": encoded.event_ids[order], "dwell_z": encoded.dwell_z[order]}
        self._session_ids = encoded.session_ids[order]
        slots = encoded.query_slot[order]
        asked = slots.max(1)
        self._ends = asked.cumsum(dtype=np.int32)
        """Of each session's queries among all; its slots are filled from the first on."""
        self._queries = encoded.query_ids[order][np.arange(QUERY_SLOTS) < asked[:, None]]
        self._numbers = np.where(slots > 0, slots + (self._ends - asked)[:, None], 0)
        """Of each click's query among all, from 1 on; 0 is none."""

    def feed(self, start: int, end: int, width: int, size: int) -> dict[str, Any]:
        """The encoder's inputs: some sessions, zero-padded to a batch."""
        of_batch = {
            name: _padded(array[start:end, :width], (size, width, *array.shape[2:]))
            for name, array in self._of_clicks.items()
        }
        before = self._ends[start - 1] if start else np.int32(0)
        queries = self._queries[before : self._ends[end - 1]]
        numbers = np.maximum(self._numbers[start:end, :width] - before, 0)
        return {
            **of_batch,
            "query_slot": _padded(numbers, (size, width)),
            "query_ids": np.concatenate((_NO_QUERY, queries)) if len(queries) else _NO_QUERY,
            "session_ids": _padded(self._session_ids[start:end], (size, len(SESSION_FIELDS))),
            "lengths": _padded(self.lengths[start:end], (size,)),
        }


def _batches(count: int, sizes: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """(start, end, size) of each; the last one is padded, if by little or if there is no smaller size."""
    start = 0
    for place, size in enumerate(sizes, 1):
        enough = size - size // 4 if place < len(sizes) else 1
        while count - start >= enough:
            end = min(start + size, count)
            yield start, end, size
            start = end


def _random_sessions(width: int, count: int) -> _Sessions:
    """Sessions of ids that every bundle has."""
    rng = np.random.default_rng(width)
    lengths = rng.integers(1, width + 1, count)
    real = np.arange(width) < lengths[:, None]

    def ids(most: int, *shape: int) -> Any:
        return rng.integers(0, most, (count, *shape), np.int32)

    encoded = Encoded(
        rows=np.arange(count),
        event_ids=ids(TIME_IDS, width, len(EVENT_FIELDS)) * real[:, :, None],
        dwell_z=(rng.normal(size=(count, width)) * real).astype(np.float32),
        query_slot=ids(1 + QUERY_SLOTS, width) * real,
        query_ids=ids(1 + QUERY_BUCKETS, QUERY_SLOTS, QUERY_GRAMS),
        session_ids=ids(TIME_IDS, len(SESSION_FIELDS)),
        lengths=lengths.astype(np.int32),
    )
    return _Sessions(encoded, encoded.rows)


def _padded(rows: Any, shape: tuple[int, ...]) -> Any:
    """Followed by zeros in every direction."""
    if rows.shape == shape:
        return np.ascontiguousarray(rows)
    padded = np.zeros(shape, rows.dtype)
    padded[tuple(map(slice, rows.shape))] = rows
    return padded


def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, without a common base
        raise ValueError(f"onnxruntime refuses the graph ({type(error).__name__})") from None


def _check_signatures(encoder: Any, classifier: Any) -> tuple[int, int]:
    """Width of the embedding and number of intents."""
    found = {each.name: (each.type, each.shape) for each in encoder.get_inputs()}
    if found != ENCODER_INPUTS:
        wrong = sorted(
            name
            for name in found.keys() | ENCODER_INPUTS.keys()
            if found.get(name) != ENCODER_INPUTS.get(name)
        )
        raise ValueError(f"the encoder's inputs are not those of the tokenizer: {', '.join(wrong)}")
    dim = _width(encoder.get_outputs(), "embedding")
    given = {each.name: (each.type, each.shape) for each in classifier.get_inputs()}
    if given != {"embedding": ("tensor(float)", ["batch", dim])}:
        raise ValueError(f"the classifier's input is not an embedding of {dim} numbers")
    intents = _width(classifier.get_outputs(), "logits")
    if {each.name: each.shape for each in classifier.get_outputs()}.get("novelty") != ["batch"]:
        raise ValueError("the classifier has no output novelty [batch]")
    return dim, intents


def _width(outputs: Any, name: str) -> int:
    for each in outputs:
        if each.name == name and each.type == "tensor(float)" and len(each.shape) == 2:
            width = each.shape[1]
            if isinstance(width, int) and width > 0:
                return width
    raise ValueError(f"a graph has no output {name} [batch, width] of float32")
