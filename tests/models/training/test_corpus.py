from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from streamer.models.encoded import Encoded
from streamer.models.fields import EVENT_FIELDS
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.corpus import Corpus, by_split, slice_clicks
from streamer.models.training.encoder import Tokens
from streamer.models.visitor_splits import split_of
from tests.models.hand_made import a_click, a_session, bank_sessions, of_length

DWELL, GAP = EVENT_FIELDS.index("dwell"), EVENT_FIELDS.index("gap")


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
        assert torch.equal(cut.event_ids[i, :kept, :DWELL], tokens.event_ids[i, 2 : 2 + kept, :DWELL])
        assert torch.equal(cut.dwell_z[i, : kept - 1], tokens.dwell_z[i, 2 : 1 + kept])
        assert not cut.event_ids[i, kept:].any()
    assert not cut.session_ids.any()
    assert tokens.session_ids.any()


def tokens_of(encoded: Encoded) -> Tokens:
    return Tokens(*(torch.from_numpy(getattr(encoded, name)) for name in Tokens._fields))


@pytest.mark.parametrize("dwell_ms", [None, 10_000])
def test_a_slice_has_the_times_that_a_session_of_its_clicks_has(dwell_ms: int | None) -> None:
    """Else the dwell of one slice's last click, being the gap of the next slice's first, would join them."""
    at = [0, 3_000, 50_000, 52_000, 110_000]
    clicks = [a_click(each, path=f"/{each}", dwell_ms=dwell_ms) for each in at]
    tokenizer = Tokenizer.fit([a_session(*clicks)], min_count=1)
    (whole,) = (tokens_of(each) for each in tokenizer.encode([a_session(*clicks)]))
    for start, end in ((0, 2), (2, 4), (4, 5), (0, 5)):
        cut = slice_clicks(whole, torch.tensor([start]), torch.tensor([end - start]))
        (alone,) = (tokens_of(each) for each in tokenizer.encode([a_session(*clicks[start:end])]))
        kept = end - start
        assert torch.equal(cut.event_ids[:, :kept], alone.event_ids[:, :kept])
        assert torch.equal(cut.dwell_z[:, :kept], alone.dwell_z[:, :kept])
    assert whole.event_ids[0, 1:5, GAP].all()
