"""What a visitor does, and its context at rates of its own, attended to by when each was known.

D. Katariya et al., TIMeSynC: temporal intent modelling with synchronized context encodings for financial
service applications, arXiv 2410.12825. B sessions, T clicks, M context tokens, D wide, H heads.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from streamer.models.arrays import Float64
from streamer.models.baselines.interface import BaselineInput, SelfSupervised, fitted
from streamer.models.baselines.next_click import (
    click_loss,
    last_and_mean,
    query_vectors,
)
from streamer.models.fields import DWELL, GAP, LEARNT_FIELDS, SESSION_FIELDS
from streamer.models.timing import EDGES_MS
from streamer.models.training.encoder import NEVER, Block, Encoder, EncoderShape, Tokens

_MINUTE_MS = 60_000
_WAVES = 8
"""Of the time encoder."""
_INIT_STD = 0.05


class Attend(nn.Module):
    """Pre-norm attention of one sequence to another, residual."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm = nn.LayerNorm(shape.dim)
        self.queries = nn.Linear(shape.dim, shape.dim)
        self.keys_values = nn.Linear(shape.dim, 2 * shape.dim)
        self.mix = nn.Linear(shape.dim, shape.dim)

    def forward(self, x: Tensor, context: Tensor, bias: Tensor) -> Tensor:
        """[B, N, D] of x and context [B, M, D], with a bias [B, H, N, M]."""
        b, n, d = x.shape
        wide = d // self.heads
        q = self.queries(self.norm(x)).view(b, n, self.heads, wide).transpose(1, 2)
        k, v = self.keys_values(context).view(b, -1, 2, self.heads, wide).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) * wide**-0.5 + bias).softmax(-1)
        mixed: Tensor = self.mix((weights @ v).transpose(1, 2).reshape(b, n, d))
        return x + mixed


class TimeSynchronized(SelfSupervised):
    """An encoder of the context and a decoder of clicks, which attends to it and predicts the next click.

    The context is flattened over its fields, each token with the vector of its field's name: device, referrer
    and hour, which are static, and for each click its times and its query. A time encoder adds the minutes
    since the session began, linear and in waves of learnt frequencies; and each attention, of context, of
    clicks and between them, is less by the minutes between two tokens times a slope of the head's, as ALiBi's
    is by positions (the paper's TimeAliBi). Nothing attends to what wasn't known yet: a dwell is known with
    the click after. A variant: the paper's channels (app, web, calls, products) are fields of one here; its
    intents are clicks, whose fields are predicted; minutes come from the gaps' buckets; and slopes are
    ALiBi's, waves Time2Vec's (S. Kazemi et al. 2019).
    """

    slopes: Tensor
    minutes_of: Tensor
    """[TIME_IDS]: a gap's minutes by its bucket"""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        shape = encoder.shape
        self.encoder = encoder
        self.context = Block(shape)
        self.attend = nn.ModuleList(Attend(shape) for _ in encoder.blocks)
        self.names = nn.Parameter(torch.zeros(len(SESSION_FIELDS) + 2, shape.dim))
        self.frequencies = nn.Parameter(torch.zeros(_WAVES))
        self.time = nn.Linear(1 + 2 * _WAVES, shape.dim)
        self.to_field = nn.ModuleList(nn.Linear(shape.dim, shape.dim) for _ in LEARNT_FIELDS)
        self.register_buffer("slopes", 2.0 ** (-8.0 * torch.arange(1, shape.heads + 1) / shape.heads))
        self.register_buffer("minutes_of", _minutes_of_buckets())

    def initialize(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.names.copy_(torch.randn(self.names.shape, generator=generator) * _INIT_STD)
            # Of the size of a click's fields: larger, time would drown what was done.
            self.time.weight.copy_(torch.randn(self.time.weight.shape, generator=generator) * _INIT_STD)
            self.frequencies.copy_(torch.randn(_WAVES, generator=generator).exp())

    def loss(self, tokens: Tokens, _generator: torch.Generator, /) -> Tensor:
        states = self.states(tokens)[:, :-1]
        return click_loss(self.encoder.events, self.to_field, states, tokens.event_ids)

    def embed(self, tokens: Tokens) -> Tensor:
        """[B, 2D]: the last state, and the mean of all."""
        return last_and_mean(self.states(tokens), tokens.lengths)

    def states(self, tokens: Tokens) -> Tensor:
        """[B, T+1, D]: state t has read t clicks and the context that was known by then."""
        e = self.encoder
        count, width = tokens.dwell_z.shape
        minutes = self.minutes_of[tokens.event_ids[:, :, GAP].long()].cumsum(1)
        begin = torch.zeros(count, 1)
        context, there = self._context(tokens, minutes)
        static = torch.zeros(len(SESSION_FIELDS), dtype=torch.int64)
        step = torch.arange(1, width + 1)
        known = torch.cat([static, step + 1, step])
        when = torch.cat([begin.expand(-1, len(static)), minutes, minutes], dim=1)
        context = self.context(context, self._bias(known, when, known, when, there))
        own, at = torch.cat([torch.zeros(1, dtype=torch.int64), step]), torch.cat([begin, minutes], dim=1)
        everything = torch.ones_like(at, dtype=torch.bool)
        among_clicks = self._bias(own, at, own, at, everything)
        to_context = self._bias(own, at, known, when, there)
        x = torch.cat([e.class_token.expand(count, 1, -1), self._clicks(tokens)], dim=1) + self._of_time(at)
        for block, attend in zip(e.blocks, self.attend, strict=True):
            x = attend(block(x, among_clicks), context, to_context)
        normed: Tensor = e.norm_out(x)
        return normed

    def _clicks(self, tokens: Tokens) -> Tensor:
        """[B, T, D]: what was done, without when and without queries."""
        event_ids = tokens.event_ids.clone()
        event_ids[:, :, [DWELL, GAP]] = 0
        nothing = torch.zeros_like(tokens.dwell_z), torch.zeros_like(tokens.query_slot)
        return self.encoder.click_vectors(
            tokens._replace(event_ids=event_ids, dwell_z=nothing[0], query_slot=nothing[1])
        )

    def _context(self, tokens: Tokens, minutes: Tensor) -> tuple[Tensor, Tensor]:
        """[B, M, D], and which there are [B, M]: static fields, then times, then queries."""
        e = self.encoder
        each = torch.eye(len(SESSION_FIELDS), dtype=torch.int32)
        static = e.session(tokens.session_ids.unsqueeze(1) * each)
        timed = torch.zeros_like(tokens.event_ids)
        timed[:, :, [DWELL, GAP]] = tokens.event_ids[:, :, [DWELL, GAP]]
        times = e.events(timed) + tokens.dwell_z.unsqueeze(2) * e.dwell
        queries = query_vectors(e, tokens)
        at = self._of_time(minutes)
        named = [static + self.names[:-2], times + self.names[-2] + at, queries + self.names[-1] + at]
        clicked = torch.arange(times.shape[1]) < tokens.lengths.unsqueeze(1)
        always = torch.ones(static.shape[:2], dtype=torch.bool)
        return torch.cat(named, dim=1), torch.cat([always, clicked, clicked & (tokens.query_slot > 0)], dim=1)

    def _of_time(self, minutes: Tensor) -> Tensor:
        """[..., D]"""
        waves = minutes.unsqueeze(-1) * self.frequencies
        encoded: Tensor = self.time(
            torch.cat([minutes.log1p().unsqueeze(-1), waves.sin(), waves.cos()], dim=-1)
        )
        return encoded

    def _bias(self, own: Tensor, at: Tensor, known: Tensor, when: Tensor, there: Tensor) -> Tensor:
        """[B, H, N, M]: of N tokens that have read `own` [N] clicks at minutes `at` [B, N], to M tokens known
        after `known` [M] clicks, at `when` [B, M], if they are `there` [B, M]."""
        seen = (known.unsqueeze(0) <= own.unsqueeze(1)) & there.unsqueeze(1)
        apart = (at.unsqueeze(2) - when.unsqueeze(1)).abs().unsqueeze(1)
        return (-self.slopes.view(-1, 1, 1) * apart).masked_fill(~seen.unsqueeze(1), NEVER)


def _minutes_of_buckets() -> Tensor:
    """The geometric mean of a bucket's edges; 0 for those of a missing gap and of none, and the last one's
    lower edge."""
    edges = EDGES_MS[1:].astype(np.float64)
    inner = np.sqrt(edges[:-1] * edges[1:])
    return torch.tensor(np.concatenate([[0.0, 0.0], inner, edges[-1:]]) / _MINUTE_MS, dtype=torch.float32)


def timesync(given: BaselineInput) -> Float64:
    """[S, 2D]"""
    return fitted(given, TimeSynchronized)
