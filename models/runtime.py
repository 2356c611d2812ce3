"""The two graphs under onnxruntime: one thread, and a few fixed shapes.

Results must not depend on who else is in a batch. With free shapes they do, in the last digits, so the
manifest pins one batch of zero-padded sessions per length bucket. Padding costs as much as clicks, and a
batch's fixed cost is shared by its sessions: narrower, larger and smaller shapes are used as well, but only
those that gave the same bits as the pinned one when they were tried, at loading.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    "query_ids": ("tensor(int32)", ["batch", QUERY_SLOTS, QUERY_GRAMS]),
    "session_ids": ("tensor(int32)", ["batch", len(SESSION_FIELDS)]),
    "lengths": ("tensor(int32)", ["batch"]),
}

_OF_CLICKS = ("event_ids", "dwell_z", "query_slot")
_WIDTHS = (2, 4, 8, 12, 16, 24, 32, 48, 64)
"""Half of all sessions have but a few clicks."""
_FEWEST = 2
"""Alone in its batch, a session takes another path through the matrix library."""
_FEW = 3
"""So many small batches take less time than one that is four times as large."""

Tokens = dict[str, Any]
"""Arrays by the names of the encoder's inputs."""


class _Graphs(NamedTuple):
    encoder: bytes
    classifier: bytes


class Shapes(NamedTuple):
    """Of one length bucket."""

    widths: list[int]
    """Narrowest first."""
    sizes: tuple[int, ...]
    """Of a batch, the large one first."""


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
        self.dim, self.intents = _check_signatures(_session(encoder), _session(classifier))
        self._encoders: dict[tuple[int, int], Any] = {}
        """By width and batch size."""
        self._classifiers: dict[int, Any] = {}
        """By batch size."""
        graphs = _Graphs(encoder, classifier)
        self.shapes = {length: self._usable(length, n, graphs) for length, n in batch_of_length.items()}
        """Of each length bucket."""
        used = {(width, size) for widths, sizes in self.shapes.values() for width in widths for size in sizes}
        self._encoders = {shape: self._encoders[shape] for shape in used}

    def run(self, encoded: Encoded) -> Outputs:
        """All sessions of one length bucket: the shortest first, so that few are padded much."""
        widths, sizes = self.shapes[encoded.event_ids.shape[1]]
        count = len(encoded.rows)
        by_length = np.argsort(encoded.lengths, kind="stable")
        tokens = {name: getattr(encoded, name)[by_length] for name in ENCODER_INPUTS}
        results = Outputs(*(np.empty((count, *of), np.float32) for of in ((self.dim,), (self.intents,), ())))
        start = 0
        for size in _batches(count, sizes):
            end = min(start + size, count)
            longest = tokens["lengths"][end - 1]
            width = next(width for width in widths if longest <= width)
            found = self._run({name: array[start:end] for name, array in tokens.items()}, width, size)
            for of_all, of_batch in zip(results, found, strict=True):
                of_all[by_length[start:end]] = of_batch[: end - start]
            start = end
        return results

    def _run(self, tokens: Tokens, width: int, size: int) -> Outputs:
        """[size]; sessions beyond those given are padding."""
        feed = {name: _padded(array, name, width, size) for name, array in tokens.items()}
        (embeddings,) = self._encoders[width, size].run(["embedding"], feed)
        logits, novelty = self._classifiers[size].run(["logits", "novelty"], {"embedding": embeddings})
        return Outputs(embeddings, logits, novelty)

    def _usable(self, length: int, batch: int, graphs: _Graphs) -> Shapes:
        """Of a length bucket: what gives the same bits as its pinned batch."""
        self._prepare(length, batch, graphs)
        sizes = 2 * batch, batch // 2

        def agrees(width: int) -> bool:
            tokens = _random_tokens(width, sizes[0])
            expected = self._bits(tokens, length, batch)
            for size in sizes:
                self._prepare(width, size, graphs)
            return expected is not None and all(self._bits(tokens, width, n) == expected for n in sizes)

        if sizes[-1] < _FEWEST or not agrees(length):
            return Shapes([length], (batch,))
        shorter = max((each for each in LENGTH_BUCKETS if each < length), default=0)
        narrow = [width for width in _WIDTHS if shorter < width < length]
        return Shapes([*filter(agrees, narrow), length], sizes)

    def _bits(self, tokens: Tokens, width: int, size: int) -> list[bytes] | None:
        """Of the results in batches of `size`; None if the graphs can't be run."""
        try:
            parts = [
                self._run({name: array[at : at + size] for name, array in tokens.items()}, width, size)
                for at in range(0, len(tokens["lengths"]), size)
            ]
        except Exception:  # a class of onnxruntime's own; a bundle's self-test says what is wrong
            return None
        return [b"".join(array.tobytes() for array in arrays) for arrays in zip(*parts, strict=True)]

    def _prepare(self, width: int, size: int, graphs: _Graphs) -> None:
        self._encoders[width, size] = _session(graphs.encoder, batch=size, clicks=width)
        if size not in self._classifiers:
            self._classifiers[size] = _session(graphs.classifier, batch=size)


def _batches(count: int, sizes: tuple[int, ...]) -> list[int]:
    """Sizes of the batches for so many sessions; the last one may be padded."""
    large, small = sizes[0], sizes[-1]
    full, left = divmod(count, large)
    few = -(-left // small)
    return [large] * full + ([small] * few if few <= _FEW else [large])


def _random_tokens(width: int, count: int) -> Tokens:
    """Sessions of ids that every bundle has."""
    rng = np.random.default_rng(width)
    lengths = rng.integers(1, width + 1, count)
    real = np.arange(width) < lengths[:, None]
    ids = {
        "event_ids": rng.integers(0, TIME_IDS, (count, width, len(EVENT_FIELDS))) * real[:, :, None],
        "query_slot": rng.integers(0, 1 + QUERY_SLOTS, (count, width)) * real,
        "query_ids": rng.integers(0, 1 + QUERY_BUCKETS, (count, QUERY_SLOTS, QUERY_GRAMS)),
        "session_ids": rng.integers(0, TIME_IDS, (count, len(SESSION_FIELDS))),
        "lengths": lengths,
    }
    dwell_z = (rng.normal(size=(count, width)) * real).astype(np.float32)
    return {"dwell_z": dwell_z, **{name: array.astype(np.int32) for name, array in ids.items()}}


def _padded(rows: Any, name: str, width: int, size: int) -> Any:
    """The rows at another width, zero-padded to a batch."""
    shape = (size, width, *rows.shape[2:]) if name in _OF_CLICKS else (size, *rows.shape[1:])
    if rows.shape == shape:
        return rows
    if len(rows) == size and width < rows.shape[1]:
        return np.ascontiguousarray(rows[:, :width])
    padded = np.zeros(shape, rows.dtype)
    if name in _OF_CLICKS:
        width = min(width, rows.shape[1])
        padded[: len(rows), :width] = rows[:, :width]
    else:
        padded[: len(rows)] = rows
    return padded


def _session(model: bytes, **dimensions: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    for name, size in dimensions.items():
        options.add_free_dimension_override_by_name(name, size)
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
