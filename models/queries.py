"""A search query as hashed words and 3- and 4-grams, so that misspelt words still meet.

Bucket 0 is padding; hashes fall into 1..QUERY_BUCKETS. No text of a query is kept anywhere in a model:
only hashes. A query's vector is the sum of its hashes' rows over the square root of their number.
"""

from __future__ import annotations

import re
import unicodedata

from streamer.models.vocabulary import stable_hash

QUERY_BUCKETS = 4096
QUERY_GRAMS = 48
"""Hashes kept of one query: words first, then 3-grams, then 4-grams."""
QUERY_SLOTS = 4
"""Distinct queries kept of one session: the last ones."""

_WORD = re.compile(r"\w+")


def words_of(query: str) -> list[str]:
    """`"Mortgage-Rates 2"` gives `["mortgage", "rates", "2"]`."""
    return _WORD.findall(unicodedata.normalize("NFKC", query).casefold())


def _grams(words: list[str], size: int) -> list[str]:
    marked = [f"<{word}>" for word in words]
    return [word[i : i + size] for word in marked for i in range(len(word) - size + 1)]


def query_ids(query: str) -> tuple[int, ...]:
    """Distinct bucket ids in 1..QUERY_BUCKETS, at most QUERY_GRAMS; empty if there is no word in it."""
    words = words_of(query)
    terms = [f"w:{word}" for word in words] + _grams(words, 3) + _grams(words, 4)
    hashed = dict.fromkeys(1 + stable_hash(term) % QUERY_BUCKETS for term in terms)
    return tuple(hashed)[:QUERY_GRAMS]
