"""The two graphs under onnxruntime: one thread, and a few fixed shapes.

Results must not depend on who else is in a batch. With free shapes they do, in the last digits, so the
manifest pins one batch of zero-padded sessions per length bucket. Padding costs as much as clicks, and a
batch's fixed cost is shared by its sessions: narrower, larger and smaller shapes are used as well, but only
those that gave the same bits as the pinned one when they were tried, at loading.
"""

from __future__ import annotations

from bisect import bisect, bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from streamer.models.arrays import Float32, Int32, Int64
from streamer.models.encoded import LENGTH_BUCKETS, Encoded
from streamer.models.fields import EVENT_FIELDS, SESSION_FIELDS
from streamer.models.queries import QUERY_BUCKETS, QUERY_GRAMS, QUERY_SLOTS
from streamer.models.timing import TIME_IDS
from streamer.schemas.build import IS_COMPILED

if IS_COMPILED:
    from streamer.models import tokens

ENCODER_INPUTS = {
    "event_ids": ("tensor(int32)", ["batch", "clicks", len(EVENT_FIELDS)]),
    "dwell_z": ("tensor(float)", ["batch", "clicks"]),
    "query_slot": ("tensor(int32)", ["batch", "clicks"]),
    "query_ids": ("tensor(int32)", ["queries", QUERY_GRAMS]),
    "session_ids": ("tensor(int32)", ["batch", len(SESSION_FIELDS)]),
    "lengths": ("tensor(int32)", ["batch"]),
}
"""Arrays of `Encoded`, but for queries: those of a batch are one list whose row 0 is empty, and `query_slot`
says which row a click has. An encoder may have more columns of ids: those of extra fields."""

_WIDTHS = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64)
"""Half of all sessions have but a few clicks."""
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Of batches, the pinned one besides."""
_MOST_CLICKS = 512
"""Of a batch, padding included. Larger ones gain nothing."""
_CLICKS_OF_A_CALL = 20
"""How many clicks more take as long as one call more of the encoder."""
_TRIED = 8
"""Sessions that a shape is tried with, or as many as it takes at once."""

_MOST_COLUMNS = 4096
"""Of a click's ids, far more than a recipe could ask for."""

_NO_QUERY = np.zeros((1, QUERY_GRAMS), np.int32)


class Shapes(NamedTuple):
    """Of one length bucket."""

    sizes: dict[int, tuple[int, ...]]
    """Of the encoder's batches, by their width; narrowest and smallest first."""
    heads: tuple[int, ...]
    """Sizes of the classifier's batches, the smallest first."""


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
        self.columns = _check_inputs(self._encoder)
        """Of a click's ids."""
        self.dim, self.intents = _check_outputs(self._encoder, self._classifier)
        self.shapes = {length: self._usable(length, n) for length, n in batch_of_length.items()}
        """Of each length bucket."""

    def run(self, encoded: Encoded) -> Outputs:
        """All sessions of one length bucket: the shortest first, so that few are padded much."""
        shapes = self.shapes[encoded.event_ids.shape[1]]
        by_length = np.argsort(encoded.lengths, kind="stable")
        embeddings = self._embeddings(encoded, by_length, _batches(encoded.lengths[by_length], shapes.sizes))
        found = Outputs(embeddings, *self._decided(embeddings, shapes.heads))
        results = Outputs(*map(np.empty_like, found))
        for array, of_sorted in zip(results, found, strict=True):
            array[by_length] = of_sorted
        return results

    def run_all(self, encoded: Sequence[Encoded]) -> Outputs:
        """Sessions of all length buckets, by their `rows`; at least one."""
        parts = [self.run(each) for each in encoded]
        order = np.argsort(np.concatenate([each.rows for each in encoded]))
        return Outputs(*(np.concatenate(arrays)[order] for arrays in zip(*parts, strict=True)))

    def _embeddings(self, encoded: Encoded, order: Int64, batches: Sequence[Batch]) -> Float32:
        """[N, D], in that order; N is where the last batch ends."""
        embeddings = np.empty((batches[-1].end, self.dim), np.float32)
        for batch in batches:
            (found,) = self._encoder.run(["embedding"], _feed(encoded, order, *batch))
            embeddings[batch.start : batch.end] = found[: batch.end - batch.start]
        return embeddings

    def _decided(self, embeddings: Float32, sizes: Sequence[int]) -> tuple[Float32, Float32]:
        """[N, K] logits, [N] novelty."""
        count, start = len(embeddings), 0
        logits, novelty = np.empty((count, self.intents), np.float32), np.empty(count, np.float32)
        while start < count:
            size = _holding(count - start, sizes)
            end = min(start + size, count)
            feed = {"embedding": _padded(embeddings[start:end], (size, self.dim))}
            of_logits, of_novelty = self._classifier.run(["logits", "novelty"], feed)
            logits[start:end], novelty[start:end] = of_logits[: end - start], of_novelty[: end - start]
            start = end
        return logits, novelty

    def _usable(self, length: int, pinned: int) -> Shapes:
        """Of a length bucket: what gives the same bits as its pinned batch."""
        shorter = max((each for each in LENGTH_BUCKETS if each < length), default=0)
        tried = sorted({pinned, *(size for size in _SIZES if size * length <= _MOST_CLICKS)})
        sizes = {}
        for width in (*(each for each in _WIDTHS if shorter < each < length), length):
            encoded = _random_sessions(width, length, max(_TRIED, *tried), self.columns)
            given = encoded, encoded.rows
            expected = self._bits(self._embeddings, *given, _alike(len(encoded.rows), length, pinned))
            agreeing = [
                size
                for size in tried
                if (width, size) == (length, pinned)
                or _agree(
                    self._bits(self._embeddings, *given, _alike(max(_TRIED, size), width, size)), expected
                )
            ]
            if agreeing:
                sizes[width] = tuple(agreeing)
        embeddings = np.random.default_rng(0).normal(size=(_SIZES[-1], self.dim)).astype(np.float32)
        expected = self._bits(self._decided, embeddings, [pinned])
        heads = [
            size
            for size in sorted({pinned, *_SIZES})
            if size == pinned or _agree(self._bits(self._decided, embeddings, [size]), expected)
        ]
        return Shapes(sizes, tuple(heads))

    def _bits(self, run: Callable[..., Iterable[Float32]], *given: Any) -> list[bytes] | None:
        """Of the arrays that it gives; None if the graphs can't be run."""
        try:
            return [array.tobytes() for array in run(*given)]
        except Exception:  # a class of onnxruntime's own; a bundle's self-test says what is wrong
            return None


class Batch(NamedTuple):
    """Sessions `start` to `end`, zero-padded to `size` sessions of `width` clicks."""

    start: int
    end: int
    width: int
    size: int


def feed_of(encoded: Encoded, order: Int64, start: int, end: int, width: int, size: int) -> dict[str, Any]:
    """The encoder's inputs: the sessions at `order[start:end]`, as a `Batch` says."""
    chosen = order[start:end]
    slots = encoded.query_slot[chosen, :width]
    asked = slots.max(1)  # queries of each session, whose slots are filled from the first on
    before = asked.cumsum(dtype=np.int32) - asked
    queries = encoded.query_ids[chosen][np.arange(QUERY_SLOTS) < asked[:, None]]
    return {
        "event_ids": _padded(encoded.event_ids[chosen, :width], (size, width, encoded.event_ids.shape[2])),
        "dwell_z": _padded(encoded.dwell_z[chosen, :width], (size, width)),
        "query_slot": _padded(np.where(slots > 0, slots + before[:, None], 0), (size, width)),
        "query_ids": np.concatenate((_NO_QUERY, queries)),
        "session_ids": _padded(encoded.session_ids[chosen], (size, len(SESSION_FIELDS))),
        "lengths": _padded(encoded.lengths[chosen], (size,)),
    }


_feed = tokens.feed if IS_COMPILED else feed_of


def _batches(lengths: Int32, sizes: Mapping[int, Sequence[int]]) -> list[Batch]:
    """Of sessions in the order of their lengths; `sizes` are those of `Shapes`.

    Those of one width are a batch, unless it costs less to pad them to the next width in use.
    """
    ends = np.searchsorted(lengths, list(sizes), side="right").tolist()
    used = [(width, end) for width, end, before in zip(sizes, ends, (0, *ends), strict=False) if end > before]
    count, start = len(lengths), 0
    batches = []
    for (width, end), (wider, _) in zip(used, (*used[1:], (0, 0)), strict=True):
        while start < end:
            waiting = end - start
            size = _holding(waiting, sizes[width])
            if size < waiting:
                pass
            elif end < count and waiting * (wider - width) <= _CLICKS_OF_A_CALL:
                break
            elif end < count or (size - waiting) * width > _CLICKS_OF_A_CALL:
                size = sizes[width][max(bisect(sizes[width], waiting) - 1, 0)]
            batches.append(Batch(start, min(start + size, end), width, size))
            start = batches[-1].end
    return batches


def _alike(count: int, width: int, size: int) -> list[Batch]:
    """The first sessions, all in batches of one shape."""
    return [Batch(start, min(start + size, count), width, size) for start in range(0, count, size)]


def _holding(count: int, sizes: Sequence[int]) -> int:
    """The smallest that holds so many; else the largest."""
    return sizes[min(bisect_left(sizes, count), len(sizes) - 1)]


def _agree(found: list[bytes] | None, expected: list[bytes] | None) -> bool:
    """Whether the first are the same."""
    return found is not None and expected is not None and found == expected[: len(found)]


def _random_sessions(longest: int, width: int, count: int, columns: int = len(EVENT_FIELDS)) -> Encoded:
    """Sessions of ids that every bundle has, in arrays of a length bucket's width."""
    rng = np.random.default_rng(longest)
    lengths = rng.integers(1, longest + 1, count)
    real = np.arange(width) < lengths[:, None]

    def ids(most: int, *shape: int) -> Any:
        return rng.integers(0, most, (count, *shape), np.int32)

    own, extra = ids(TIME_IDS, width, len(EVENT_FIELDS)), ids(2, width, columns - len(EVENT_FIELDS))
    return Encoded(
        rows=np.arange(count),
        event_ids=np.concatenate((own, extra), axis=2) * real[:, :, None],
        dwell_z=(rng.normal(size=(count, width)) * real).astype(np.float32),
        query_slot=ids(1 + QUERY_SLOTS, width) * real,
        query_ids=ids(1 + QUERY_BUCKETS, QUERY_SLOTS, QUERY_GRAMS),
        session_ids=ids(TIME_IDS, len(SESSION_FIELDS)),
        lengths=lengths.astype(np.int32),
    )


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


def _check_inputs(encoder: Any) -> int:
    """Columns of a click's ids."""
    found = {each.name: (each.type, each.shape) for each in encoder.get_inputs()}
    _, shape = found.get("event_ids", ("", []))
    columns = shape[-1] if len(shape) == 3 else None
    if not isinstance(columns, int) or not len(EVENT_FIELDS) <= columns <= _MOST_COLUMNS:
        columns = len(EVENT_FIELDS)
    expected = ENCODER_INPUTS | {"event_ids": ("tensor(int32)", ["batch", "clicks", columns])}
    if found != expected:
        wrong = sorted(
            name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)
        )
        raise ValueError(f"the encoder's inputs are not those of the tokenizer: {', '.join(wrong)}")
    return columns


def _check_outputs(encoder: Any, classifier: Any) -> tuple[int, int]:
    """Width of the embedding and number of intents."""
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
