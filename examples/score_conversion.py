"""How likely a visitor is to buy, from a logistic model over intents, kept honest in time.

The model here is given; fit your own on rows joined by `closed_at` (`streamer replay --out`), never by
`ended_at`: a session is known only when it has closed.

    python examples/score_conversion.py VISITOR_ID ...
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from streamer.client import VisitorState, VisitorView

DAY_MS = 86_400_000


@dataclass(frozen=True)
class ConversionScorer:
    """`weights` by intent_id of one taxonomy; a session's weight halves every `half_life_days`."""

    taxonomy_version: str
    weights: Mapping[str, float]
    bias: float = -3.0
    half_life_days: float = 4.0

    def score(self, state: VisitorState | None, now_ms: int) -> float:
        """Probability; that of a stranger for unknown visitors, bots and intents of another taxonomy."""
        if state is None or state.is_bot or state.taxonomy_version != self.taxonomy_version:
            return self._probability(0.0)
        fading = 0.5 ** (max(now_ms - state.closed_at, 0) / (self.half_life_days * DAY_MS))
        evidence = sum(i.probability * self.weights.get(i.intent_id, 0.0) for i in state.intents)
        return self._probability(fading * evidence)

    def _probability(self, evidence: float) -> float:
        return 1.0 / (1.0 + math.exp(-(self.bias + evidence)))


def main() -> None:
    import time

    with VisitorView() as view:
        for visitor_id in sys.argv[1:]:
            state = view.get(visitor_id)
            weights = {intent.intent_id: 2.0 for intent in state.intents[:1]} if state else {}
            scorer = ConversionScorer(state.taxonomy_version if state else "", weights)
            print(f"{visitor_id}: {scorer.score(state, int(time.time() * 1000)):.3f}")


if __name__ == "__main__":
    main()
