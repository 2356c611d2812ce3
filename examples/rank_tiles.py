"""An app's home screen: which tiles a visitor sees first, from what they did on the web.

A tile ranker of a bank would learn its weights from clicks on tiles; here each tile names the intents it is
for. What matters is the order of things: the embedding if it is of the space that the ranker was made for,
else the intents, else the order that everybody gets.

    python examples/rank_tiles.py VISITOR_ID
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from streamer.client import VisitorState, VisitorView

DEFAULT_ORDER = ("accounts", "cards", "loans", "mortgages", "savings")


@dataclass(frozen=True)
class TileRanker:
    """`by_intent`: tile -> intent_ids that it is for. `by_vector`: tile -> weights [D] in `space`."""

    by_intent: Mapping[str, Sequence[str]]
    space: str = ""
    by_vector: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    tiles: Sequence[str] = DEFAULT_ORDER

    def rank(self, state: VisitorState | None) -> tuple[list[str], str]:
        """Tiles, best first, and what they were ranked by."""
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
    with VisitorView() as view:
        tiles, why = ranker.rank(view.get(sys.argv[1]))
        print(f"by {why}: {', '.join(tiles)}")


if __name__ == "__main__":
    main()
