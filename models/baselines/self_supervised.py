"""The encoder trained otherwise: not at all, without one objective, on one alone, or on a visitor's sessions.

On hidden clicks alone: F. Sun et al., BERT4Rec, CIKM 2019: whole clicks are hidden. On contrast alone: D.
Babaev et al., CoLES, SIGMOD 2022, where two random slices of one customer's history belong together, and
slices of others don't. Both of its kinds here are variants, with the encoder for the paper's GRU and InfoNCE
with all others of the batch for its margin loss with hard negatives: `coles` has two slices of one session,
and `coles_visitor` two sessions of one visitor, so that it learns nothing where visitors come once. D wide.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamer.models.arrays import Float64
from streamer.models.baselines.interface import BaselineInput
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus, embed
from streamer.models.training.pretrain import deterministic, new_encoder, pretrain


def ours(given: BaselineInput) -> Float64:
    """[S, D]"""
    return _pretrained(given, given.config)


def bert4rec(given: BaselineInput) -> Float64:
    """[S, D]"""
    alone = {"weight_masked": 1.0, "weight_rest": 0.0, "weight_contrast": 0.0}
    alone |= {"mask_fields": 0.0, "mask_session": 0.0}
    return _pretrained(given, replace(given.config, **alone))  # type: ignore[arg-type]


def coles(given: BaselineInput) -> Float64:
    """[S, D]"""
    alone = {"weight_masked": 0.0, "weight_rest": 0.0, "weight_contrast": 1.0}
    return _pretrained(given, replace(given.config, **alone))  # type: ignore[arg-type]


def coles_visitor(given: BaselineInput) -> Float64:
    """[S, D]"""
    alone = {"weight_masked": 0.0, "weight_rest": 0.0, "weight_contrast": 0.0, "weight_visitor": 1.0}
    return _pretrained(given, replace(given.config, **alone))  # type: ignore[arg-type]


def untrained(given: BaselineInput) -> Float64:
    """[S, D]"""
    config, tokenizer = given.config, given.tokenizer()
    with deterministic(config.threads):
        encoder = new_encoder(tokenizer, config, given.generator()).eval()
        return embed(encoder, Corpus.of(given.sessions, tokenizer)).astype(np.float64)


def _pretrained(given: BaselineInput, config: TrainConfig) -> Float64:
    tokenizer, generator = given.tokenizer(), given.generator()
    with deterministic(config.threads):
        corpus = Corpus.of(given.learnable(), tokenizer)
        trained = pretrain(corpus, tokenizer, config, generator, lambda *_: None)
        return embed(trained.encoder, Corpus.of(given.sessions, tokenizer)).astype(np.float64)
