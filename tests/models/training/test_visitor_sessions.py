from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from streamer.models.tokenizer import Tokenizer
from streamer.models.training.corpus import Corpus
from streamer.models.training.visitor_sessions import VisitorSessions
from tests.models.hand_made import of_length


def a_corpus(visitors: list[int]) -> Corpus:
    """A session of a length of its own for each, so that they lie in several buckets."""
    sessions = [
        replace(of_length(1 + 7 * number % 40), visitor_id=f"v{visitor}")
        for number, visitor in enumerate(visitors)
    ]
    return Corpus.of(sessions, Tokenizer.fit(sessions, min_count=1))


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(0, 100))
def test_the_other_session_is_another_one_of_the_same_visitor(visitors: list[int], seed: int) -> None:
    own = VisitorSessions(a_corpus(visitors))
    rows = torch.randperm(len(visitors), generator=torch.Generator().manual_seed(seed))
    which, others = own.others(rows, torch.Generator().manual_seed(seed))
    for row, other in zip(rows[which].tolist(), others.tolist(), strict=True):
        assert other != row
        assert visitors[other] == visitors[row]
    alone = {visitor for visitor, count in Counter(visitors).items() if count == 1}
    assert {visitors[row] for row in rows[which].tolist()} == set(visitors) - alone


def test_every_other_session_is_drawn_about_as_often() -> None:
    own = VisitorSessions(a_corpus([0, 1, 0, 0, 1, 0]))
    _, others = own.others(torch.zeros(3_000, dtype=torch.int64), torch.Generator().manual_seed(0))
    counts = Counter(others.tolist())
    assert set(counts) == {2, 3, 5}
    assert all(900 < count < 1_100 for count in counts.values())


def test_tokens_are_those_of_the_sessions_asked_for() -> None:
    corpus = a_corpus(list(range(12)))
    rows = torch.tensor([7, 0, 7, 11])
    found = torch.zeros(4, dtype=torch.int32)
    for which, tokens in VisitorSessions(corpus).tokens(rows):
        found[which] = tokens.lengths
    assert found.tolist() == [1 + 7 * row % 40 for row in rows.tolist()]
