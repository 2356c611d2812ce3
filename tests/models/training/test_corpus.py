from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.tokenizer import Tokenizer
from models.training.corpus import Corpus, by_split, slice_clicks
from models.visitor_splits import split_of
from tests.models.hand_made import bank_sessions, of_length


def test_splits_are_60_15_and_25_percent_of_the_visitors() -> None:
    splits = [split_of(f"visitor-{i}") for i in range(20_000)]
    shares = [splits.count(name) / len(splits) for name in ("train", "validation", "test")]
    assert shares == pytest.approx([0.60, 0.15, 0.25], abs=0.01)


def test_a_visitor_falls_into_one_split() -> None:
    splits = by_split(bank_sessions(300, per_visitor=3))
    visitors = [{session.visitor_id for session in some} for some in splits.values()]
    assert sum(len(some) for some in visitors) == len(set().union(*visitors))


def test_the_split_of_a_visitor_never_changes() -> None:
    assert [split_of(v) for v in "abcd"] == ["test", "train", "train", "test"]


def test_bots_are_left_out() -> None:
    bot = replace(of_length(3), is_bot=True)
    assert not any(by_split([bot]).values())


def test_the_order_in_which_sessions_come_does_not_matter() -> None:
    sessions = bank_sessions(50)
    assert by_split(sessions) == by_split(sessions[::-1])


def test_every_session_is_in_one_batch_of_an_epoch() -> None:
    sessions = bank_sessions(200)
    corpus = Corpus.of(sessions, Tokenizer.fit(sessions))
    batches = corpus.batches(16, torch.Generator().manual_seed(0))
    rows = sorted(row for bucket, chunk in batches for row in bucket.rows[chunk].tolist())
    assert rows == list(range(200))


def test_a_slice_of_a_session_is_those_clicks_without_device_referrer_and_hour() -> None:
    sessions = bank_sessions(200)
    corpus = Corpus.of(sessions, Tokenizer.fit(sessions))
    tokens = corpus.buckets[1].tokens
    lengths = tokens.lengths.long()
    cut = slice_clicks(tokens, torch.full_like(lengths, 2), lengths - 3)
    for i, length in enumerate(lengths.tolist()):
        kept = length - 3
        assert torch.equal(cut.event_ids[i, :kept], tokens.event_ids[i, 2 : 2 + kept])
        assert torch.equal(cut.dwell_z[i, :kept], tokens.dwell_z[i, 2 : 2 + kept])
        assert not cut.event_ids[i, kept:].any()
    assert not cut.session_ids.any()
    assert tokens.session_ids.any()
