"""What people type into the site's search box, typing errors included."""

from __future__ import annotations

import numpy as np

from models.simulator.catalogue import Catalogue
from models.simulator.draw import cumulate, pick, pick_one

_SOURCES = cumulate((0.55, 0.3, 0.15))
_TERMS = cumulate((0.6, 0.3, 0.1))
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def draw_query(rng: np.random.Generator, catalogue: Catalogue, intent: int, misspelling_rate: float) -> str:
    """One to three terms: of the intent, of its parent (shared with its siblings), or of anybody."""
    chosen = catalogue.intents[intent]
    sources = (chosen.words, catalogue.parents[chosen.parent].words, catalogue.site_words)
    terms = [pick_one(rng, sources[pick(rng, _SOURCES)]) for _ in range(1 + pick(rng, _TERMS))]
    query = " ".join(dict.fromkeys(terms))
    return misspell(rng, query) if rng.random() < misspelling_rate else query


def misspell(rng: np.random.Generator, query: str) -> str:
    """One letter lost, doubled, exchanged with its neighbour, or replaced by another. Never the same text."""
    at = int(rng.random() * (len(query) - 1))
    before, letter, following, after = query[:at], query[at], query[at + 1], query[at + 2 :]
    kind = int(rng.random() * 4)
    if kind == 0 and letter != following:
        return before + following + letter + after
    if kind == 1:
        return before + letter + letter + following + after
    if kind == 2:
        return before + following + after
    other = pick_one(rng, _LETTERS.replace(letter, ""))
    return before + other + following + after
