"""Baselines learn what sessions have in common, the same for the same seed, and see nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from streamer.models.arrays import Float64, Int64
from streamer.models.baselines.flattened import Flattened
from streamer.models.baselines.interface import BaselineInput, Labelled, SelfSupervised, draw_linear
from streamer.models.baselines.latent_intents import IntentContrast, Interests, augmented
from streamer.models.baselines.next_click import NextClick
from streamer.models.baselines.registry import CONTENDERS
from streamer.models.baselines.supervised import TargetAware
from streamer.models.baselines.time_synchronized import TimeSynchronized
from streamer.models.fields import DWELL
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus
from streamer.models.training.encoder import Encoder, Tokens
from streamer.models.training.pretrain import shape_of
from streamer.schemas.click import Session
from tests.models.hand_made import a_click, a_session

CONFIG = TrainConfig(
    seed=3, dim=16, layers=1, heads=2, hidden=32, epochs=10, batch=16, learning_rate=5e-3, min_count=1
)
SELF_SUPERVISED = sorted(name for name, each in CONTENDERS.items() if not each.supervised)
KINDS = 3
PAGES = 4
"""Of each kind of session."""
LEARNT = 200
ENOUGH = {
    "icl": (4, 5e-3, 0),
    "coles_visitor": (5, 5e-3, 0),
    "mind": (24, 5e-3, 3),
    "sasrec": (10, 5e-3, 0),
    "step": (20, 3e-3, 0),
    "timesync": (7, 5e-3, 0),
    "trace": (12, 3e-3, 0),
}
"""Passes, learning rate and seed with which a baseline finds the kinds; few sessions leave it to chance."""

MODELS: dict[str, Callable[[Encoder], SelfSupervised]] = {
    "gru4rec": lambda encoder: NextClick(encoder, "recurrent"),
    "sasrec": lambda encoder: NextClick(encoder, "causal"),
    "icl": IntentContrast,
    "mind": Interests,
    "step": Flattened,
    "timesync": TimeSynchronized,
}


def planted(count: int, query: str | None = None, seed: int = 0) -> tuple[list[Session], Int64]:
    """Sessions of pages of one kind, and which; the two sessions of a visitor are of one kind."""
    rng = random.Random(seed)
    sessions, kinds = [], []
    for i in range(count):
        kind = rng.randrange(KINDS) if i % 2 == 0 else kinds[-1]
        clicks = [
            a_click(
                j * 20_000, path=f"/p{kind}-{rng.randrange(PAGES)}", search_query=query if j == 2 else None
            )
            for j in range(rng.choice([6, 7, 8]))
        ]
        kinds.append(kind)
        sessions.append(a_session(*clicks, visitor_id=f"v{i // 2}", session_id=f"{i:032d}"))
    return sessions, np.array(kinds)


SESSIONS, KIND = planted(240)


def apart(vectors: Float64) -> float:
    """How much nearer sessions that weren't learnt from are to those of their own kind: -1 to 1."""
    return float(silhouette_score(vectors[LEARNT:], KIND[LEARNT:]))


def vectors_of(name: str, config: TrainConfig = CONFIG, count: int = len(SESSIONS)) -> Float64:
    learnt = np.arange(count) < LEARNT
    return CONTENDERS[name].embed(BaselineInput(SESSIONS[:count], learnt, config))


@pytest.mark.parametrize("name", ENOUGH)
def test_sessions_of_one_kind_come_closer_than_they_were(name: str) -> None:
    passes, rate, seed = ENOUGH[name]
    enough = replace(CONFIG, epochs=passes, learning_rate=rate, seed=seed)
    before = apart(vectors_of(name, replace(enough, epochs=0)))
    assert apart(vectors_of(name, enough)) > before + 0.1


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_vectors_depend_on_the_seed_and_not_on_other_sessions(name: str) -> None:
    short = replace(CONFIG, epochs=1)
    found = vectors_of(name, short)
    assert np.array_equal(found, vectors_of(name, short))
    assert not np.allclose(found, vectors_of(name, replace(short, seed=4)))
    assert np.allclose(found[:210], vectors_of(name, short, 210), atol=1e-5)


def test_the_supervised_baseline_learns_from_labels_to_tell_kinds_apart() -> None:
    rows = np.arange(LEARNT)
    labelled = Labelled(rows, np.eye(KINDS)[KIND[rows]], rows >= 150)
    vectors = CONTENDERS["bst"].embed(BaselineInput(SESSIONS, np.arange(240) < LEARNT, CONFIG, labelled))
    assert vectors.shape == (240, CONFIG.dim + KINDS)
    logits = vectors[LEARNT:, CONFIG.dim :]
    assert (logits.argmax(1) == KIND[LEARNT:]).mean() > 0.9


def test_without_labels_the_supervised_baseline_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="no labels"):
        CONTENDERS["bst"].embed(BaselineInput(SESSIONS, np.arange(240) < LEARNT, CONFIG))


def tokens_of(sessions: list[Session]) -> tuple[Tokenizer, Tokens]:
    """Of sessions in one length bucket."""
    tokenizer = Tokenizer.fit(sessions, min_count=1)
    (bucket,) = Corpus.of(sessions, tokenizer).buckets
    return tokenizer, bucket.pick(torch.arange(len(sessions)))


def short_sessions() -> tuple[Tokenizer, Tokens]:
    return tokens_of(planted(8, query="rates")[0])


def drawn(name: str, tokenizer: Tokenizer) -> SelfSupervised:
    generator = torch.Generator().manual_seed(0)
    model = MODELS[name](Encoder(shape_of(tokenizer, CONFIG)))
    draw_linear(model, generator)
    model.encoder.initialize(generator)
    model.initialize(generator)
    return model.eval()


def with_padding_of(tokens: Tokens, value: int) -> Tokens:
    inside = torch.arange(tokens.dwell_z.shape[1]) < tokens.lengths.unsqueeze(1)
    return tokens._replace(
        event_ids=torch.where(inside.unsqueeze(2), tokens.event_ids, value),
        dwell_z=torch.where(inside, tokens.dwell_z, float(value)),
        query_slot=torch.where(inside, tokens.query_slot, value),
    )


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_read_from_padding(name: str) -> None:
    tokenizer, tokens = short_sessions()
    model = drawn(name, tokenizer)
    assert torch.allclose(model.embed(tokens), model.embed(with_padding_of(tokens, 1)), atol=1e-5)


def test_no_target_reads_padding_or_another_target() -> None:
    tokenizer, tokens = short_sessions()
    generator = torch.Generator().manual_seed(0)
    encoder = Encoder(shape_of(tokenizer, CONFIG))
    encoder.initialize(generator)
    model = TargetAware(encoder, KINDS)
    model.initialize(generator)
    vectors, logits = model(tokens)
    again, padded = model(with_padding_of(tokens, 1))
    assert torch.allclose(vectors, again, atol=1e-5)
    assert torch.allclose(logits, padded, atol=1e-5)
    with torch.no_grad():
        model.targets[0, 0] += 1.0
    other = model(tokens)[1]
    assert torch.allclose(logits[:, 1:], other[:, 1:], atol=1e-5)
    assert not torch.allclose(logits[:, 0], other[:, 0])


@pytest.mark.parametrize("name", ["gru4rec", "sasrec", "timesync"])
def test_what_predicts_a_click_has_not_seen_it(name: str) -> None:
    tokenizer, tokens = short_sessions()
    model = drawn(name, tokenizer)
    assert isinstance(model, NextClick | TimeSynchronized)
    at = 2
    event_ids = tokens.event_ids.clone()
    event_ids[:, at:] = 1
    later = tokens._replace(
        event_ids=event_ids,
        dwell_z=torch.cat([tokens.dwell_z[:, :at], tokens.dwell_z[:, at:] + 1], dim=1),
        query_slot=torch.cat([tokens.query_slot[:, :at], 1 - tokens.query_slot[:, at:].clamp(max=1)], dim=1),
    )
    states, other = model.states(tokens), model.states(later)
    assert torch.allclose(states[:, : at + 1], other[:, : at + 1], atol=1e-5)
    assert not torch.allclose(states[:, at + 1], other[:, at + 1])


def test_a_dwell_is_context_only_once_the_next_click_is_there() -> None:
    tokenizer, tokens = short_sessions()
    model = drawn("timesync", tokenizer)
    assert isinstance(model, TimeSynchronized)
    event_ids = tokens.event_ids.clone()
    event_ids[:, 1, DWELL] += 1
    states, other = model.states(tokens), model.states(tokens._replace(event_ids=event_ids))
    assert torch.allclose(states[:, :3], other[:, :3], atol=1e-5)
    assert not torch.allclose(states[:, 3], other[:, 3])


def test_what_was_done_long_ago_is_attended_to_less() -> None:
    model = drawn("timesync", short_sessions()[0])
    assert isinstance(model, TimeSynchronized)
    known, when = torch.zeros(2, dtype=torch.int64), torch.tensor([[0.0, 60.0]])
    bias = model._bias(known[:1], torch.tensor([[60.0]]), known, when, torch.ones(1, 2, dtype=torch.bool))
    assert (bias[0, :, 0, 1] == 0).all()
    assert torch.allclose(bias[0, :, 0, 0], -60.0 * torch.tensor([2.0**-4, 2.0**-8]))


def test_a_session_of_several_windows_is_read_to_its_end() -> None:
    long = [a_session(*(a_click(i * 1000, path=f"/{i}") for i in range(40)), session_id=f"{n}") for n in "ab"]
    other = a_session(*(a_click(i * 1000, path=f"/{min(i, 38)}") for i in range(40)), session_id="b")
    tokenizer, tokens = tokens_of([long[0], other])
    model = drawn("step", tokenizer)
    first, second = model.embed(tokens)
    assert not torch.allclose(first[:16], second[:16], atol=1e-3)
    alone = model.embed(Tokens(*(each[:1] for each in tokens)))[0]
    assert torch.allclose(first, alone, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 16), min_size=1, max_size=6), seed=st.integers(0, 2**31))
def test_a_view_has_some_of_the_clicks_each_at_most_once(lengths: list[int], seed: int) -> None:
    at = torch.arange(16)
    inside = at < torch.tensor(lengths).unsqueeze(1)
    numbered = (at + 1).to(torch.int32) * inside
    tokens = Tokens(
        event_ids=numbered.unsqueeze(2).expand(-1, -1, 10).to(torch.int32),
        dwell_z=numbered.float(),
        query_slot=numbered,
        query_ids=torch.zeros(len(lengths), 4, 48, dtype=torch.int32),
        session_ids=torch.ones(len(lengths), 3, dtype=torch.int32),
        lengths=torch.tensor(lengths, dtype=torch.int32),
    )
    view = augmented(tokens, torch.Generator().manual_seed(seed))
    assert not view.session_ids.any()
    shown = view.event_ids[:, :, 0].tolist()
    for length, own, left in zip(lengths, shown, view.lengths.tolist(), strict=True):
        there = [number for number in own if number]
        assert len(set(there)) == len(there)
        assert set(there) <= set(range(1, length + 1))
        assert 1 <= left <= length
        assert not any(own[left:])
    assert torch.equal(view.event_ids[:, :, 0].float(), view.dwell_z)
