"""The encoder itself, trained otherwise: not at all, on hidden clicks alone, on contrast alone.

F. Sun et al., BERT4Rec, CIKM 2019: whole clicks are hidden. D. Babaev et al., CoLES, SIGMOD 2022: slices of
one session belong together, slices of others don't.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.baselines.interface import BaselineInput
from models.evaluation.features import Floats
from models.training.config import TrainConfig
from models.training.corpus import Corpus, embed
from models.training.pretrain import deterministic, new_encoder, pretrain


def ours(given: BaselineInput) -> Floats:
    """[S, D]"""
    return _pretrained(given, given.config)


def bert4rec(given: BaselineInput) -> Floats:
    """[S, D]"""
    alone = {"weight_rest": 0.0, "weight_contrast": 0.0, "mask_fields": 0.0, "mask_session": 0.0}
    return _pretrained(given, replace(given.config, **alone))  # type: ignore[arg-type]


def coles(given: BaselineInput) -> Floats:
    """[S, D]"""
    alone = {"weight_masked": 0.0, "weight_rest": 0.0, "weight_contrast": 1.0}
    return _pretrained(given, replace(given.config, **alone))  # type: ignore[arg-type]


def untrained(given: BaselineInput) -> Floats:
    """[S, D]"""
    config, tokenizer = given.config, given.tokenizer()
    with deterministic(config.threads):
        encoder = new_encoder(tokenizer, config, given.generator()).eval()
        return embed(encoder, Corpus.of(given.sessions, tokenizer)).astype(np.float64)


def _pretrained(given: BaselineInput, config: TrainConfig) -> Floats:
    tokenizer, generator = given.tokenizer(), given.generator()
    with deterministic(config.threads):
        corpus = Corpus.of(given.learnable(), tokenizer)
        trained = pretrain(corpus, tokenizer, config, generator, lambda *_: None)
        return embed(trained.encoder, Corpus.of(given.sessions, tokenizer)).astype(np.float64)
