"""Self-supervised baselines: the encoder trained otherwise, and next-click models.

The encoder itself: untrained; on hidden clicks alone (F. Sun et al., BERT4Rec, CIKM 2019: whole clicks are
hidden); on contrast alone (a variant of D. Babaev et al., CoLES, SIGMOD 2022: slices of one session belong
together, slices of others don't; the paper's are slices of a customer's history). Next-click models: B.
Hidasi et al., Session-based recommendations with recurrent neural networks, ICLR 2016 (GRU4Rec); W. Kang, J.
McAuley, Self-attentive sequential recommendation, ICDM 2018 (SASRec). Both predict items; here a click is
predicted by its fields, as the encoder's own objectives do. B sessions, T clicks, D wide.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamer.models.arrays import Float64
from streamer.models.baselines.interface import BaselineInput, draw_linear, embed_all, fit
from streamer.models.fields import LEARNT_FIELDS
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus, embed
from streamer.models.training.encoder import Encoder, Tokens
from streamer.models.training.pretrain import deterministic, new_encoder, pretrain, shape_of

Kind = Literal["recurrent", "causal"]
_NEVER = -1e9


def ours(given: BaselineInput) -> Float64:
    """[S, D]"""
    return _pretrained(given, given.config)


def bert4rec(given: BaselineInput) -> Float64:
    """[S, D]"""
    alone = {"weight_rest": 0.0, "weight_contrast": 0.0, "mask_fields": 0.0, "mask_session": 0.0}
    return _pretrained(given, replace(given.config, **alone))  # type: ignore[arg-type]


def coles(given: BaselineInput) -> Float64:
    """[S, D]"""
    alone = {"weight_masked": 0.0, "weight_rest": 0.0, "weight_contrast": 1.0}
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


class NextClick(nn.Module):
    """State t has read the session's context and clicks 1 to t, and predicts click t + 1."""

    def __init__(self, encoder: Encoder, kind: Kind) -> None:
        super().__init__()
        d = encoder.shape.dim
        self.encoder = encoder
        self.recurrent = nn.GRU(d, d, batch_first=True) if kind == "recurrent" else None
        self.to_field = nn.ModuleList(nn.Linear(d, d) for _ in LEARNT_FIELDS)

    def states(self, tokens: Tokens) -> Tensor:
        """[B, T+1, D]"""
        e = self.encoder
        clicks = e.embed_clicks(tokens)
        clicks = clicks + e.narrow_event(F.relu(e.widen_event(e.norm_event(clicks))))
        # No position from the end: it would reveal how many clicks are still to come.
        clicks = clicks + e.from_start[: clicks.shape[1]]
        context = (e.session(tokens.session_ids) + e.class_token).unsqueeze(1)
        x = torch.cat([context, clicks], dim=1)
        if self.recurrent is not None:
            read: Tensor = self.recurrent(x)[0]
            return read
        later = torch.full((x.shape[1], x.shape[1]), _NEVER).triu(1)
        for block in e.blocks:
            x = block(x, later)
        normed: Tensor = e.norm_out(x)
        return normed

    def loss(self, tokens: Tokens, _generator: torch.Generator) -> Tensor:
        states = self.states(tokens)[:, :-1]
        terms = []
        for field, to_field in enumerate(self.to_field):
            ids = tokens.event_ids[:, :, field].long()
            at = ids > 0
            if at.any():
                logits = to_field(states[at]) @ self.encoder.events.of_field(field).T
                logits = torch.cat([torch.full_like(logits[:, :1], _NEVER), logits[:, 1:]], dim=1)
                terms.append(F.cross_entropy(logits, ids[at]))
        return torch.stack(terms).mean()

    def embed(self, tokens: Tokens) -> Tensor:
        """[B, 2D]: the last state, and the mean of all."""
        states = self.states(tokens)
        weights = Encoder.mask(tokens.lengths, states.shape[1]).unsqueeze(-1)
        mean = (states * weights).sum(1) / weights.sum(1)
        last = states[torch.arange(len(states)), tokens.lengths.long()]
        return torch.cat([last, mean], dim=1)


def gru4rec(given: BaselineInput) -> Float64:
    return _next_click(given, "recurrent")


def sasrec(given: BaselineInput) -> Float64:
    return _next_click(given, "causal")


def _next_click(given: BaselineInput, kind: Kind) -> Float64:
    """[S, 2D]"""
    config, generator, tokenizer = given.config, given.generator(), given.tokenizer()
    with deterministic(config.threads):
        encoder = Encoder(shape_of(tokenizer, config))
        model = NextClick(encoder, kind)
        draw_linear(model, generator)
        encoder.initialize(generator)
        fit(model, model.loss, Corpus.of(given.learnable(), tokenizer), config, generator)
        return embed_all(model.embed, Corpus.of(given.sessions, tokenizer), 2 * config.dim)
