"""How likely a customer or a visitor is to buy, from a logistic model over intents, kept honest in time.

The model here is given; fit your own on rows joined by `closed_at` (`streamer replay --out`), never by
`ended_at`: a session is known only when it has closed.

    python examples/score_conversion.py --user USER_ID ...          # from the profile over all their sessions
    python examples/score_conversion.py --visitor VISITOR_ID ...    # nobody known: from the browser's latest
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass

from streamer.client import UserState, UserView, VisitorState, VisitorView

DAY_MS = 86_400_000


@dataclass(frozen=True)
class ConversionScorer:
    """`weights` by intent_id of one taxonomy; a session's weight halves every `half_life_days`."""

    taxonomy_version: str
    weights: Mapping[str, float]
    bias: float = -3.0
    half_life_days: float = 4.0

    def score(self, seen: UserState | VisitorState | None, now_ms: int) -> float:
        """Probability; that of a stranger for who is unknown, bots and intents of another taxonomy."""
        latest = seen.latest if isinstance(seen, UserState) else seen
        if latest is None or latest.is_bot or latest.taxonomy_version != self.taxonomy_version:
            return self._probability(0.0)
        intents = seen.profile if isinstance(seen, UserState) else latest.intents
        fading = 0.5 ** (max(now_ms - latest.closed_at, 0) / (self.half_life_days * DAY_MS))
        evidence = sum(i.probability * self.weights.get(i.intent_id, 0.0) for i in intents)
        return self._probability(fading * evidence)

    def _probability(self, evidence: float) -> float:
        return 1.0 / (1.0 + math.exp(-(self.bias + evidence)))


def main() -> None:
    import time

    parser = argparse.ArgumentParser()
    parser.add_argument("--user", nargs="*", default=[])
    parser.add_argument("--visitor", nargs="*", default=[])
    args = parser.parse_args()
    with UserView() as users, VisitorView() as visitors:
        found = [(user_id, users.get(user_id)) for user_id in args.user]
        found += [(visitor_id, visitors.get(visitor_id)) for visitor_id in args.visitor]
    for name, seen in found:
        latest = seen.latest if isinstance(seen, UserState) else seen
        weights = {intent.intent_id: 2.0 for intent in latest.intents[:1]} if latest else {}
        scorer = ConversionScorer(latest.taxonomy_version if latest else "", weights)
        print(f"{name}: {scorer.score(seen, int(time.time() * 1000)):.3f}")


if __name__ == "__main__":
    main()
