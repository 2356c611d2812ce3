"""Checks of the exported graphs, and the cost of 8 bits.

Parity: torch and onnxruntime agree within 1e-5, at shapes that nothing is tuned to. Bit-equality: at the
shapes that serve, a session's result is the same bit for bit, whatever its neighbours and however many.
Linear layers in 8 bits keep neither; `int8_cost` measures by how much.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from streamer.models.arrays import Float32
from streamer.models.encoded import Encoded
from streamer.models.queries import QUERY_BUCKETS, QUERY_GRAMS, QUERY_SLOTS
from streamer.models.runtime import Outputs, Runtime
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.distill import ClassifierHead
from streamer.models.training.encoder import Encoder, EncoderShape, Tokens
from streamer.schemas.click import Session

MAX_ERROR = 1e-5
ODD_SHAPES = ((1, 1), (3, 5), (2, 13), (7, 8), (5, 33), (1, 64), (2, 63))
"""(batch, clicks)"""
NEIGHBOUR_SETS = 40


class ExportError(Exception):
    """The graphs don't do what the trained model does."""


def random_tokens(shape: EncoderShape, batch: int, clicks: int, rng: np.random.Generator) -> Encoded:
    """Sessions of random ids and lengths; half of the clicks have a query."""
    lengths = rng.integers(1, clicks + 1, batch).astype(np.int32)
    real = np.arange(clicks) < lengths[:, None]
    sizes = [shape.event_sizes[field] for field in shape.columns]
    ids = np.stack([rng.integers(0, size, (batch, clicks)) for size in sizes], axis=-1)
    query_ids = rng.integers(0, QUERY_BUCKETS + 1, (batch, QUERY_SLOTS, QUERY_GRAMS))
    slots = rng.integers(0, QUERY_SLOTS + 1, (batch, clicks)) * (rng.random((batch, clicks)) < 0.5)
    session_ids = np.stack([rng.integers(0, size, batch) for size in shape.session_sizes], axis=-1)
    return Encoded(
        rows=np.arange(batch),
        event_ids=(ids * real[:, :, None]).astype(np.int32),
        dwell_z=(rng.normal(size=(batch, clicks)) * real).astype(np.float32),
        query_slot=(slots * real).astype(np.int32),
        query_ids=query_ids.astype(np.int32),
        session_ids=session_ids.astype(np.int32),
        lengths=lengths,
    )


@torch.no_grad()
def parity_error(
    encoder: Encoder, head: ClassifierHead, graphs: tuple[bytes, bytes], runtime: Runtime
) -> float:
    """The largest difference over odd and pinned shapes, relative where numbers exceed 1. Raises ExportError.

    Logits and novelty are compared on the embedding that each side made itself.
    """
    rng = np.random.default_rng(0)
    worst = 0.0
    for batch, clicks in (*ODD_SHAPES, *((b, t) for t, b in runtime.batch_of_length.items())):
        # A runtime pinned to the odd shape.
        odd = Runtime(*graphs, {clicks: batch})
        tokens = random_tokens(encoder.shape, batch, clicks, rng)
        found = odd.run(tokens)
        embedding = encoder(*(torch.from_numpy(getattr(tokens, name)) for name in Tokens._fields))
        logits, novelty = head(embedding)
        wanted = Outputs(embedding.numpy(), logits.numpy(), novelty.numpy())
        for ours, theirs in zip(found, wanted, strict=True):
            worst = max(worst, float((np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max()))
    if not worst <= MAX_ERROR:
        raise ExportError(f"torch and onnxruntime differ by {worst:.2g}, expected at most {MAX_ERROR:.0e}")
    return worst


def check_neighbours(shape: EncoderShape, runtime: Runtime) -> int:
    """Number of neighbour sets tried over all shapes; raises ExportError at the first differing bit."""
    tried = 0
    for count, clicks, differs in neighbour_sets(shape, runtime):
        if differs:
            raise ExportError(f"a session's result changes with its neighbours: {count} of {clicks} clicks")
        tried += 1
    return tried


def neighbour_sets(shape: EncoderShape, runtime: Runtime) -> Iterator[tuple[int, int, bool]]:
    """(sessions, clicks, whether any bit of a session's result differs from the result when it is alone)"""
    rng = np.random.default_rng(1)
    for clicks, batch in runtime.batch_of_length.items():
        session = random_tokens(shape, 1, clicks, rng)
        alone = _bits(runtime.run(session), 0)
        for _ in range(NEIGHBOUR_SETS):
            count = int(rng.integers(1, 3 * batch + 1))
            neighbours = random_tokens(shape, count, clicks, rng)
            place = int(rng.integers(count))
            for name in Tokens._fields:
                getattr(neighbours, name)[place] = getattr(session, name)[0]
            yield count, clicks, _bits(runtime.run(neighbours), place) != alone


def _bits(outputs: Outputs, row: int) -> tuple[bytes, ...]:
    parts: list[Float32] = [outputs.embeddings, outputs.logits, outputs.novelty]
    return tuple(part[row].tobytes() for part in parts)


def int8_cost(
    tokenizer: Tokenizer, shape: EncoderShape, exact: Runtime, rounded: Runtime, sessions: Sequence[Session]
) -> dict[str, float | int]:
    """On these sessions, against the exact graphs."""
    pairs = [(exact.run(tokens), rounded.run(tokens)) for tokens in tokenizer.encode(sessions)]
    wanted, found = (
        Outputs(*map(np.concatenate, zip(*side, strict=True))) for side in zip(*pairs, strict=True)
    )
    cosine = (wanted.embeddings * found.embeddings).sum(1) / (
        np.linalg.norm(wanted.embeddings, axis=1) * np.linalg.norm(found.embeddings, axis=1)
    )
    tried = [differs for _, _, differs in neighbour_sets(shape, rounded)]
    return {
        "int8_max_error": float(f"{np.abs(wanted.embeddings - found.embeddings).max():.2g}"),
        "int8_min_cosine": round(float(cosine.min()), 4),
        "int8_labels_changed": round(float((wanted.logits.argmax(1) != found.logits.argmax(1)).mean()), 4),
        "int8_changed_by_neighbours": round(sum(tried) / len(tried), 4),
    }
