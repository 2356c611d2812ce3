"""Every field of every click as a token of its own, read in order: the auto-regressive tabular transformer.

A. Stein et al., A simple baseline for predicting events with auto-regressive tabular transformers, arXiv
2410.10648 (STEP). B sessions, T clicks, C columns, W windows a session, N tokens, D wide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamer.models.arrays import Float64
from streamer.models.baselines.interface import BaselineInput, SelfSupervised, fitted
from streamer.models.baselines.next_click import query_vectors
from streamer.models.fields import DWELL
from streamer.models.training.corpus import dwell_is_gap
from streamer.models.training.encoder import NEVER, Encoder, Tokens, later_unseen

EVENTS = 16
"""Clicks of a window. Windows don't overlap, as in the paper, whose sequences have 10 events."""
_INIT_STD = 0.05


class Flattened(SelfSupervised):
    """A decoder of the next token among all values of all columns (section 3.3 of the paper).

    Each column has a vocabulary of its own, times are columns like others, in buckets; positions are learnt
    and absolute; output weights are the tokens' own; and while it learns, the columns of each click come in
    an order drawn anew. A variant in that a value that is missing is no token, nor is a dwell that is the gap
    that follows; that a search query is a token that is read and not predicted; that device, referrer and
    hour are one token at the start of a window instead of columns of each click; and that no outcome is a
    column, so that there are none to hide.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        d = encoder.shape.dim
        self.encoder = encoder
        columns = len(encoder.shape.columns) + 1
        self.positions = nn.Parameter(torch.zeros(1 + EVENTS * columns, d))

    def initialize(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.positions.copy_(torch.randn(self.positions.shape, generator=generator) * _INIT_STD)

    def loss(self, tokens: Tokens, generator: torch.Generator, /) -> Tensor:
        states, following, _ = self._read(tokens, generator)
        at = following > 0
        logits = states[:, :-1][at] @ self.encoder.events.rows.weight.T
        logits = torch.cat([torch.full_like(logits[:, :1], NEVER), logits[:, 1:]], dim=1)
        return F.cross_entropy(logits, following[at])

    def embed(self, tokens: Tokens) -> Tensor:
        """[B, 2D]: the last state of the last window, and the mean of all."""
        states, _, counts = self._read(tokens, None)
        read = (torch.arange(states.shape[1]) <= counts.unsqueeze(1)) & (counts > 0).unsqueeze(1)
        summed = (states * read.unsqueeze(2)).sum(1)
        last = states[torch.arange(len(states)), counts]
        sessions = len(tokens.lengths)
        each, of_session = torch.arange(sessions), (sessions, -1, states.shape[2])
        mean = summed.view(of_session).sum(1) / read.sum(1).view(sessions, -1).sum(1, keepdim=True)
        last_window = (tokens.lengths.long() - 1) // EVENTS
        return torch.cat([last.view(of_session)[each, last_window], mean], dim=1)

    def _read(self, tokens: Tokens, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """States [BW, N+1, D], the first before any token; ids of the tokens [BW, N], 0 where they aren't
        predicted; how many there are [BW]. Columns are in their own order without a generator."""
        e = self.encoder
        x, ids, there = self._columns(tokens)
        if generator is not None:
            order = torch.rand(ids.shape, generator=generator).argsort(2)
            ids, there = ids.gather(2, order), there.gather(2, order)
            x = x.gather(2, order.unsqueeze(3).expand_as(x))
        windows = -(-ids.shape[1] // EVENTS)
        rows = len(ids) * windows
        x, ids, there = x.reshape(rows, -1, x.shape[3]), ids.reshape(rows, -1), there.reshape(rows, -1)
        counts = there.sum(1)
        first = (~there).long().argsort(dim=1, stable=True)[:, : int(counts.max())]
        x, ids = x.gather(1, first.unsqueeze(2).expand(-1, -1, x.shape[2])), ids.gather(1, first)
        context = (e.session(tokens.session_ids) + e.class_token).repeat_interleave(windows, 0)
        x = torch.cat([context.unsqueeze(1), x], dim=1)
        x = x + self.positions[: x.shape[1]]
        for block in e.blocks:
            x = block(x, later_unseen(x.shape[1], x.device))
        return e.norm_out(x), ids, counts

    def _columns(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors [B, T, C, D], places in the table of all values [B, T, C] and which there are [B, T, C];
        the last column is the query's."""
        events = self.encoder.events
        event_ids = tokens.event_ids.clone()
        event_ids[:, :, DWELL] *= ~dwell_is_gap(event_ids)
        asked = (tokens.query_slot > 0).unsqueeze(2)
        clicked = (torch.arange(event_ids.shape[1]) < tokens.lengths.unsqueeze(1)).unsqueeze(2)
        there = torch.cat([event_ids > 0, asked], dim=2) & clicked
        ids = (event_ids + events.offsets) * (event_ids > 0)
        ids = torch.cat([ids, torch.zeros_like(ids[:, :, :1])], dim=2).long()
        of_query = query_vectors(self.encoder, tokens)
        x = torch.cat([events.rows(ids[:, :, :-1]), of_query.unsqueeze(2)], dim=2)
        return x, ids, there


def step(given: BaselineInput) -> Float64:
    """[S, 2D]"""
    return fitted(given, Flattened)
