"""The profile of the sessions that training held back, as the runtime that will serve sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.calibration import Calibration
from models.profile import DECILES, Layout, Profile
from models.runtime import Runtime
from models.taxonomy import Taxonomy
from models.tokenizer import Tokenizer
from schemas.click import Session


def reference_profile(
    tokenizer: Tokenizer,
    runtime: Runtime,
    calibration: Calibration,
    taxonomy: Taxonomy,
    sessions: Sequence[Session],
    split: str,
) -> Profile:
    """`sessions`: at least one, all of `split`."""
    encoded = tokenizer.encode(sessions)
    outputs = [runtime.run(each) for each in encoded]
    novelty = np.concatenate([each.novelty for each in outputs]).astype(np.float64)
    edges = np.quantile(novelty, np.arange(1, DECILES + 1) / (DECILES + 1)).round(4)
    layout = Layout(taxonomy, edges.tolist())
    total = np.zeros(layout.width)
    for tokens, found in zip(encoded, outputs, strict=True):
        probabilities = calibration.probabilities(found.logits)
        reasons = [
            calibration.reason_to_abstain(sessions[i], distance, probability)
            for i, distance, probability in zip(
                tokens.rows.tolist(), found.novelty.tolist(), probabilities.max(1).tolist(), strict=True
            )
        ]
        total += layout.counts(tokens, probabilities.argmax(1), found.novelty, reasons).sum(0)
    return layout.profile(total, len(sessions), split)
