"""What 8-bit linear layers cost: how far results are off, and how they change with who else is scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.runtime import Outputs, Runtime
from models.tokenizer import Tokenizer
from models.training.encoder import EncoderShape
from models.training.parity import neighbour_sets
from schemas.click import Session


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
