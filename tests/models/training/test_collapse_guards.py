from __future__ import annotations

import numpy as np
import pytest
import torch

from streamer.models.tokenizer import Tokenizer
from streamer.models.training.collapse_guards import collapse_guards, effective_rank
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus
from streamer.models.training.pretrain import deterministic, new_encoder, pretrain
from tests.models.hand_made import bank_sessions

CONFIG = TrainConfig(dim=16, heads=2, hidden=32, epochs=6, batch=32, learning_rate=5e-3, min_count=3)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def parts() -> tuple[Tokenizer, Corpus, Corpus]:
    sessions = bank_sessions(300)
    tokenizer = Tokenizer.fit(sessions, min_count=3)
    return tokenizer, Corpus.of(sessions[:200], tokenizer), Corpus.of(sessions[200:], tokenizer)


def test_a_pretrained_encoder_passes_and_beats_an_untrained_one(
    parts: tuple[Tokenizer, Corpus, Corpus],
) -> None:
    tokenizer, train, validation = parts
    untrained = new_encoder(tokenizer, CONFIG, seeded(1))
    with deterministic(threads=1):
        trained = pretrain(train, tokenizer, CONFIG, seeded(0), lambda *_: None).encoder
        guards = collapse_guards(trained, untrained, train, validation)
    assert guards.passed
    assert guards.probe_accuracy > guards.untrained_accuracy > 0
    assert guards.probe_accuracy > guards.majority_accuracy


def test_a_collapsed_encoder_does_not_pass(parts: tuple[Tokenizer, Corpus, Corpus]) -> None:
    tokenizer, train, validation = parts
    untrained = new_encoder(tokenizer, CONFIG, seeded(1))
    collapsed = new_encoder(tokenizer, CONFIG, seeded(1))
    with torch.no_grad():
        collapsed.norm_out.weight.zero_()
    guards = collapse_guards(collapsed, untrained, train, validation)
    assert not guards.passed
    assert guards.min_std == 0.0


def test_effective_rank_counts_the_directions_in_use() -> None:
    points = np.random.default_rng(0).normal(size=(4000, 8)).astype(np.float32)
    assert effective_rank(points) == pytest.approx(8, abs=0.1)
    points[:, 3:] = 0
    assert effective_rank(points) == pytest.approx(3, abs=0.1)
