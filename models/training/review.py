"""What people read before they trust clusters: how many sessions each intent has, and what they look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from models.llm.audit import audit
from models.llm.rendering import rendering
from models.llm.vote import OTHER
from models.training.teacher import Taught
from schemas.click import Session

_SESSIONS = 2000
_CLEAR = 0.5


def review(taught: Taught, sessions: Sequence[Session]) -> dict[str, Any]:
    """Of training sessions from all over the split; one without a clear intent counts as `other`.

    The sessions were scrubbed when their clicks came in, and the report stays on the machine.
    """
    labels, ids = taught.train, [intent.id for intent in taught.taxonomy.intents]
    chosen = np.unique(np.linspace(0, len(labels.rows) - 1, _SESSIONS).astype(int))
    cast = [
        [(ids[int(given.argmax())],) if given.max() >= _CLEAR else (OTHER,)]
        for given in labels.probabilities[chosen]
    ]
    renderings = [rendering(sessions[row], str) for row in labels.rows[chosen]]
    about = {"teacher": taught.taxonomy.teacher, "taxonomy_version": taught.taxonomy.version}
    return {**about, **audit(taught.taxonomy, renderings, cast, [])}
