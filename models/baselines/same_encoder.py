"""The encoder itself, trained otherwise: not at all, on hidden clicks alone, on contrast alone.

F. Sun et al., BERT4Rec, CIKM 2019: whole clicks are hidden. D. Babaev et al., CoLES, SIGMOD 2022: slices of
one session belong together, slices of others don't.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.baselines.interface import Assignment
from models.evaluation.features import Floats
from models.training.config import TrainConfig
from models.training.corpus import Corpus, embed
from models.training.determinism import deterministic
from models.training.pretrain import new_encoder, pretrain


def ours(assignment: Assignment) -> Floats:
    """[S, D]"""
    return _pretrained(assignment, assignment.config)


def bert4rec(assignment: Assignment) -> Floats:
    """[S, D]"""
    alone = {"weight_rest": 0.0, "weight_contrast": 0.0, "mask_fields": 0.0, "mask_session": 0.0}
    return _pretrained(assignment, replace(assignment.config, **alone))  # type: ignore[arg-type]


def coles(assignment: Assignment) -> Floats:
    """[S, D]"""
    alone = {"weight_masked": 0.0, "weight_rest": 0.0, "weight_contrast": 1.0}
    return _pretrained(assignment, replace(assignment.config, **alone))  # type: ignore[arg-type]


def untrained(assignment: Assignment) -> Floats:
    """[S, D]"""
    config, tokenizer = assignment.config, assignment.tokenizer()
    with deterministic(config.threads):
        encoder = new_encoder(tokenizer, config, assignment.generator()).eval()
        return embed(encoder, Corpus.of(assignment.sessions, tokenizer)).astype(np.float64)


def _pretrained(assignment: Assignment, config: TrainConfig) -> Floats:
    tokenizer, generator = assignment.tokenizer(), assignment.generator()
    with deterministic(config.threads):
        corpus = Corpus.of(assignment.learnable(), tokenizer)
        trained = pretrain(corpus, tokenizer, config, generator, lambda *_: None)
        return embed(trained.encoder, Corpus.of(assignment.sessions, tokenizer)).astype(np.float64)
