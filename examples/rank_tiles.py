"""An app's home screen: which tiles somebody sees first, from what they did on the web.

A tile ranker of a bank would learn its weights from clicks on tiles; here each tile names the intents it is
for. What matters is the order of things: the embedding if it is of the space that the ranker was made for,
else the intents, else the order that everybody gets.

    python examples/rank_tiles.py --user USER_ID          # who is logged in: from all their browsers
    python examples/rank_tiles.py --visitor VISITOR_ID    # who isn't: from this browser
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamer.client import UserState, UserView, VisitorState, VisitorView

DEFAULT_ORDER = ("accounts", "cards", "loans", "mortgages", "savings")


@dataclass(frozen=True)
class TileRanker:
    """`by_intent`: tile -> intent_ids that it is for. `by_vector`: tile -> weights [D] in `space`."""

    by_intent: Mapping[str, Sequence[str]]
    space: str = ""
    by_vector: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    tiles: Sequence[str] = DEFAULT_ORDER
    min_confidence: float = 0.5
    """Below it, a session is not taken for the customer's: the order of tiles would show somebody else's."""

    def rank(self, seen: UserState | VisitorState | None) -> tuple[list[str], str]:
        """Tiles, best first, and what they were ranked by: the latest session."""
        if isinstance(seen, UserState):
            state = seen.latest if seen.confidence >= self.min_confidence else None
        else:
            state = seen
        if state is None or state.is_bot:
            return list(self.tiles), "default"
        vector = state.embedding_for(self.space)
        if vector is not None:
            scores = {tile: float(weights @ vector) for tile, weights in self.by_vector.items()}
            return self._by(scores), "embedding"
        # Another model is live than the one this ranker was made for: its vectors mean nothing to it.
        if state.top_intent is None:
            return list(self.tiles), "default"
        scores = {
            tile: sum(state.probability_of(intent_id) for intent_id in intent_ids)
            for tile, intent_ids in self.by_intent.items()
        }
        return self._by(scores), "intents"

    def _by(self, scores: Mapping[str, float]) -> list[str]:
        """By score; equal ones in the default order."""
        return sorted(self.tiles, key=lambda tile: -scores.get(tile, 0.0))


def main() -> None:
    ranker = TileRanker({"cards": ["credit-gold"], "loans": ["loans-borrowing"], "savings": ["deposit-save"]})
    parser = argparse.ArgumentParser()
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user")
    who.add_argument("--visitor")
    args = parser.parse_args()
    with UserView() as users, VisitorView() as visitors:
        # A customer without a record gets the default: what their browser showed may be somebody else's.
        seen = users.get(args.user) if args.user is not None else visitors.get(args.visitor)
        tiles, why = ranker.rank(seen)
        print(f"by {why}: {', '.join(tiles)}")


if __name__ == "__main__":
    main()
