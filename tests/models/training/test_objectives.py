from __future__ import annotations

import gc
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from streamer.models.fields import EVENT_FIELDS
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.checkpoint import Position
from streamer.models.training.config import for_simulated_bank
from streamer.models.training.corpus import Corpus, pick, without_events_of_pages
from streamer.models.training.encoder import Encoder, Tokens
from streamer.models.training.errors import TrainingError
from streamer.models.training.objectives import (
    Objectives,
    VisitorPairs,
    _bag_loss,
    _halves,
    _with_copies,
    learnt_at,
)
from streamer.models.training.pretrain import deterministic, new_encoder, pretrain
from tests.models.hand_made import a_click, a_session, bank_sessions, of_length

SMALL = for_simulated_bank(dim=16, heads=2, hidden=32, epochs=4, batch=32, learning_rate=5e-3, min_count=3)
CONFIG = replace(SMALL, weight_masked=1.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def a_corpus() -> tuple[Tokenizer, Corpus]:
    sessions = bank_sessions(240)
    tokenizer = Tokenizer.fit(sessions, min_count=3)
    return tokenizer, Corpus.of(sessions, tokenizer)


def made(tokenizer: Tokenizer) -> tuple[Encoder, Objectives]:
    encoder = new_encoder(tokenizer, CONFIG, seeded(1))
    objectives = Objectives(encoder, CONFIG)
    objectives.initialize(seeded(2))
    return encoder, objectives


def test_every_objective_falls_during_pretraining() -> None:
    tokenizer, corpus = a_corpus()
    with deterministic(threads=1):
        losses = pretrain(corpus, tokenizer, CONFIG, seeded(0), lambda *_: None).losses
    assert all(losses[-1][name] < losses[0][name] for name in ("masked", "rest", "contrast"))


def test_pretraining_that_diverges_ends_with_the_step_and_the_losses() -> None:
    tokenizer, corpus = a_corpus()
    diverging = replace(CONFIG, weight_contrast=math.inf)
    with deterministic(threads=1), pytest.raises(TrainingError, match=r"diverged at step 2 .*: masked nan"):
        pretrain(corpus, tokenizer, diverging, seeded(0), lambda *_: None)


def test_padding_rows_stay_zero_during_pretraining() -> None:
    tokenizer, corpus = a_corpus()
    with deterministic(threads=1):
        encoder = pretrain(corpus, tokenizer, CONFIG, seeded(0), lambda *_: None).encoder
    for table in (encoder.events.rows, encoder.session.rows, encoder.queries):
        assert table.weight[0].abs().max() == 0


def test_a_hidden_field_is_not_seen() -> None:
    """With everything hidden, what the fields were makes no difference to the encoder."""
    tokenizer, corpus = a_corpus()
    hide_all = for_simulated_bank(
        dim=16, heads=2, hidden=32, mask_events=1.0, mask_fields=1.0, mask_session=1.0
    )
    encoder, _ = made(tokenizer)
    objectives = Objectives(encoder, hide_all)
    seen = []
    encoder.hidden_states = lambda tokens, extra: (
        seen.append(tokens)
        or torch.zeros(  # type: ignore[assignment,method-assign,func-returns-value,misc]
            tokens.lengths.shape[0], 1 + tokens.dwell_z.shape[1], 16
        )
    )
    bucket = corpus.buckets[0]
    some = pick(bucket.tokens, torch.arange(20))
    objectives._masked(encoder, some, some, seeded(0))
    (tokens,) = seen
    assert not tokens.event_ids.any()
    assert not tokens.dwell_z.any()
    assert not tokens.query_slot.any()
    assert not tokens.session_ids.any()


def test_a_hidden_dwell_is_not_told_by_the_gap_that_it_is_nor_a_gap_by_the_dwell() -> None:
    _, corpus = a_corpus()
    dwell, gap = EVENT_FIELDS.index("dwell"), EVENT_FIELDS.index("gap")
    ids = corpus.buckets[0].pick(torch.arange(20)).event_ids
    drawn = torch.rand(ids.shape, generator=seeded(0)) < 0.3
    hidden = _with_copies(drawn, ids)
    known = ids[:, :-1, dwell] > 0
    assert torch.equal(hidden[:, :-1, dwell][known], hidden[:, 1:, gap][known])
    assert not torch.equal(drawn[:, :-1, dwell][known], drawn[:, 1:, gap][known])
    others = [field for field in range(len(EVENT_FIELDS)) if field not in (dwell, gap)]
    assert torch.equal(hidden[:, :, others], drawn[:, :, others])
    assert bool((hidden | ~drawn).all())


def test_two_halves_are_the_session_and_short_sessions_have_none() -> None:
    tokenizer, corpus = a_corpus()
    tokens = corpus.buckets[0].tokens
    halves = _halves(tokens, seeded(0))
    assert halves is not None
    first, second, rows = halves
    assert torch.equal(first.lengths + second.lengths, tokens.lengths[rows])
    assert first.lengths.min() >= 1
    assert second.lengths.min() >= 1
    short = Corpus.of([of_length(1)] * 4, tokenizer).buckets[0].tokens
    assert _halves(short, torch.Generator()) is None


def test_other_sessions_of_the_same_visitor_are_no_negatives() -> None:
    tokenizer, _ = a_corpus()
    _, objectives = made(tokenizer)
    embeddings = torch.randn(4, 16, generator=seeded(0))
    others = embeddings.flip(0)
    alone = objectives._contrast(objectives.project, embeddings, others, torch.arange(4))
    same = objectives._contrast(objectives.project, embeddings, others, torch.zeros(4, dtype=torch.int64))
    assert same.item() == pytest.approx(0.0, abs=1e-6)
    assert alone.item() > 1


def test_a_bag_counts_its_ids_and_empty_bags_do_not_count() -> None:
    logits = torch.log(torch.tensor([[1e-9, 0.5, 0.25, 0.25], [1e-9, 0.1, 0.1, 0.8]]))
    loss = _bag_loss(logits, torch.tensor([[1, 2, 0], [0, 0, 0]]))
    assert loss.item() == pytest.approx(-(torch.tensor([0.5, 0.25]).log().mean().item()), abs=1e-5)


def test_sessions_of_one_click_train_too_even_alone_in_a_batch() -> None:
    """Where nothing can be cut, hidden fields alone are learnt, or nothing could be."""
    sessions = [of_length(1)]
    tokenizer = Tokenizer.fit(sessions, min_count=1)
    alone = replace(CONFIG, batch=1, mask_fields=0.5, min_count=1)
    with deterministic(threads=1):
        corpus = Corpus.of(sessions, tokenizer)
        losses = pretrain(corpus, tokenizer, alone, seeded(0), lambda *_: None).losses
        with pytest.raises(TrainingError, match="no batch of 1 has two sessions with two clicks"):
            pretrain(corpus, tokenizer, replace(alone, weight_masked=0.0), seeded(0), lambda *_: None)
    assert all(loss["rest"] == loss["contrast"] == 0 for loss in losses)
    assert any(loss["masked"] > 0 for loss in losses)


@pytest.mark.parametrize("name", ["masked", "rest", "contrast"])
def test_an_objective_of_weight_zero_is_not_computed(name: str) -> None:
    tokenizer, corpus = a_corpus()
    without = replace(CONFIG, epochs=1, **{f"weight_{name}": 0.0})  # type: ignore[arg-type]
    with deterministic(threads=1):
        (losses,) = pretrain(corpus, tokenizer, without, seeded(0), lambda *_: None).losses
    assert losses[name] == 0.0
    assert all(loss > 0 for other, loss in losses.items() if other != name)


def test_the_rest_is_learnt_in_a_part_of_the_batches_unless_nothing_else_is_learnt() -> None:
    every_third = replace(SMALL, rest_every=3)
    assert [sorted(learnt_at(step, every_third)) for step in range(4)] == [
        ["contrast", "rest"],
        ["contrast"],
        ["contrast"],
        ["contrast", "rest"],
    ]
    alone = replace(every_third, weight_contrast=0.0)
    assert all(learnt_at(step, alone) == {"rest"} for step in range(4))
    assert learnt_at(1, replace(alone, weight_causal=1.0)) == set()


def test_the_mean_loss_is_over_the_batches_in_which_it_was_learnt() -> None:
    position = Position.start(["rest", "contrast"], torch.zeros(1))
    position.add({"rest": 3.0, "contrast": 1.0})
    position.add({"contrast": 2.0})
    assert position.means() == {"rest": 3.0, "contrast": 1.5}
    position.end_epoch()
    assert position.history == [{"rest": 3.0, "contrast": 1.5}]
    assert position.means() == {"rest": 0.0, "contrast": 0.0}


def test_event_type_and_element_are_hidden_where_a_page_says_what_a_click_is_about() -> None:
    sessions = [
        a_session(
            a_click(page_type="product", path="/loans", event_type="click", element="cta"),
            a_click(1000, page_type=None, path=None, event_type="click", element="map"),
        )
    ]
    tokenizer = Tokenizer.fit(sessions, min_count=1)
    tokens = Corpus.of(sessions, tokenizer).buckets[0].pick(torch.arange(1))
    columns = [EVENT_FIELDS.index(name) for name in ("event_type", "element")]
    others = [at for at in range(len(EVENT_FIELDS)) if at not in columns]
    seen = without_events_of_pages(tokens).event_ids[0, :2]
    assert tokens.event_ids[0, :2, columns].all()
    assert seen[:, columns].bool().tolist() == [[False, False], [True, True]]
    assert torch.equal(seen[:, others], tokens.event_ids[0, :2, others])


def test_what_no_objective_shows_says_nothing_in_the_end() -> None:
    """Neither device, referrer and hour, which slices don't have, nor event types of pages."""
    tokenizer, corpus = a_corpus()
    by_weight = {}
    for weight in (0.0, 1.0):
        with deterministic(threads=1):
            config = replace(SMALL, weight_masked=weight)
            encoder = pretrain(corpus, tokenizer, config, seeded(0), lambda *_: None).encoder
        event_type = encoder.events.of_field(EVENT_FIELDS.index("event_type"))
        by_weight[weight] = encoder.session.rows.weight, event_type, encoder.events.of_field(0)
    for unlearnt in by_weight[0.0][:2]:
        assert not unlearnt.any()
    assert all(learnt.any() for learnt in (by_weight[0.0][2], *by_weight[1.0]))


EVERYTHING = replace(CONFIG, weight_causal=1.0, weight_visitor=0.5)


def test_what_follows_and_contrast_of_a_visitors_sessions_are_learnt_where_they_have_a_weight() -> None:
    tokenizer, corpus = a_corpus()
    with deterministic(threads=1):
        losses = pretrain(corpus, tokenizer, EVERYTHING, seeded(0), lambda *_: None).losses
    assert set(losses[0]) == {"masked", "rest", "contrast", "causal", "visitor"}
    assert all(losses[-1][name] < losses[0][name] for name in losses[0])


def test_without_their_weights_they_have_no_parameters_and_the_readout_changes_no_byte() -> None:
    tokenizer, corpus = a_corpus()
    _, objectives = made(tokenizer)
    assert not [name for name, _ in objectives.named_parameters() if name.startswith(("to_next", "to_later"))]
    found = []
    for readout in ("mean", "mean+max+last"):
        with deterministic(threads=1):
            config = replace(CONFIG, epochs=1, readout=readout)
            found.append(pretrain(corpus, tokenizer, config, seeded(0), lambda *_: None))
    assert found[0].losses == found[1].losses
    assert all(map(torch.equal, found[0].encoder.parameters(), found[1].encoder.parameters()))


def test_a_beginning_knows_neither_what_follows_nor_how_much() -> None:
    tokenizer, corpus = a_corpus()
    encoder, _ = made(tokenizer)
    tokens = corpus.buckets[1].pick(torch.arange(6))
    until = 4
    other = tokens.event_ids.clone()
    other[:, until:] = other[:, until:].flip(1)
    changed = tokens._replace(event_ids=other, lengths=torch.full_like(tokens.lengths, until))
    before, after = encoder.causal_states(tokens), encoder.causal_states(changed)
    assert torch.allclose(before[:, : until + 1], after[:, : until + 1], atol=1e-6)
    assert not torch.allclose(before[:, until + 1], after[:, until + 1], atol=1e-3)


def test_what_follows_is_not_told_by_a_dwell() -> None:
    tokenizer, corpus = a_corpus()
    encoder = new_encoder(tokenizer, EVERYTHING, seeded(1))
    objectives = Objectives(encoder, EVERYTHING)
    tokens = corpus.buckets[1].pick(torch.arange(20))
    blank = tokens.event_ids.clone()
    blank[:, :, EVENT_FIELDS.index("dwell")] = 0
    without = tokens._replace(event_ids=blank, dwell_z=torch.zeros_like(tokens.dwell_z))
    assert objectives._causal(encoder, tokens).equal(objectives._causal(encoder, without))


def test_sessions_of_a_visitor_are_not_told_by_device_referrer_and_hour() -> None:
    tokenizer, corpus = a_corpus()
    encoder = new_encoder(tokenizer, EVERYTHING, seeded(1))
    objectives = Objectives(encoder, EVERYTHING)
    objectives.initialize(seeded(2))
    tokens = corpus.buckets[1].pick(torch.arange(20))
    nameless = tokens._replace(session_ids=torch.zeros_like(tokens.session_ids))
    visitors = torch.arange(20)

    def loss(own: Tokens, others: Tokens) -> Tensor:
        pairs = VisitorPairs(torch.arange(20), [(torch.arange(20), others)])
        return objectives._of_visitors(encoder, own, visitors, pairs)

    assert loss(tokens, tokens).equal(loss(nameless, nameless))


def test_a_step_leaves_nothing_of_its_graph_behind() -> None:
    tokenizer, corpus = a_corpus()
    held: list[int] = []

    def count(*_: object) -> None:
        held.append(sum(type(each) is torch.Tensor and each.requires_grad for each in gc.get_objects()))

    with deterministic(threads=1):
        pretrain(corpus, tokenizer, replace(CONFIG, epochs=1), seeded(0), count)
    assert max(held[1:]) <= held[0]
