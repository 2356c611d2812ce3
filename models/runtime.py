"""The two graphs under onnxruntime: one thread, and one pinned shape per length bucket.

Results must not depend on who else is in a batch. With free batch sizes they do, in the last digits; with
one pinned batch per length bucket, zero-padded, a session's result is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from models.encoded import Encoded, Float32
from models.fields import EVENT_FIELDS, SESSION_FIELDS
from models.queries import QUERY_GRAMS, QUERY_SLOTS

ENCODER_INPUTS = {
    "event_ids": ("tensor(int32)", ["batch", "clicks", len(EVENT_FIELDS)]),
    "dwell_z": ("tensor(float)", ["batch", "clicks"]),
    "query_slot": ("tensor(int32)", ["batch", "clicks"]),
    "query_ids": ("tensor(int32)", ["batch", QUERY_SLOTS, QUERY_GRAMS]),
    "session_ids": ("tensor(int32)", ["batch", len(SESSION_FIELDS)]),
    "lengths": ("tensor(int32)", ["batch"]),
}


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
        self._encoders = {
            length: _session(encoder, batch=batch, clicks=length) for length, batch in batch_of_length.items()
        }
        self._classifiers = {
            batch: _session(classifier, batch=batch) for batch in set(batch_of_length.values())
        }
        self.dim, self.intents = _check_signatures(_session(encoder), _session(classifier))

    def run(self, encoded: Encoded) -> Outputs:
        """All sessions of one length bucket, in pinned batches."""
        size = self.batch_of_length[encoded.event_ids.shape[1]]
        parts = [self._run_batch(encoded, start, size) for start in range(0, len(encoded.rows), size)]
        return parts[0] if len(parts) == 1 else Outputs(*map(np.concatenate, zip(*parts, strict=True)))

    def _run_batch(self, encoded: Encoded, start: int, size: int) -> Outputs:
        count = min(size, len(encoded.rows) - start)
        feed = {name: _padded(getattr(encoded, name)[start : start + count], size) for name in ENCODER_INPUTS}
        (embeddings,) = self._encoders[encoded.event_ids.shape[1]].run(["embedding"], feed)
        logits, novelty = self._classifiers[size].run(["logits", "novelty"], {"embedding": embeddings})
        return Outputs(embeddings[:count], logits[:count], novelty[:count])


def _padded(rows: Any, size: int) -> Any:
    if len(rows) == size:
        return rows
    padded = np.zeros((size, *rows.shape[1:]), rows.dtype)
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
