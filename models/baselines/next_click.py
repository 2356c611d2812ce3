"""Next-click models, recurrent and causal, and what others that predict clicks have in common with them.

B. Hidasi et al., Session-based recommendations with recurrent neural networks, ICLR 2016 (GRU4Rec); W. Kang,
J. McAuley, Self-attentive sequential recommendation, ICDM 2018 (SASRec). Both predict items; here a click is
predicted by its fields, as the encoder's own objectives do. B sessions, T clicks, F fields, D wide.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamer.models.arrays import Float64
from streamer.models.baselines.interface import BaselineInput, SelfSupervised, fitted
from streamer.models.fields import LEARNT_FIELDS
from streamer.models.training.encoder import NEVER, Encoder, FieldTable, Tokens, later_unseen

Kind = Literal["recurrent", "causal"]


class NextClick(SelfSupervised):
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
        clicks = e.click_vectors(tokens)
        # No position from the end: it would reveal how many clicks are still to come.
        clicks = clicks + e.from_start[: clicks.shape[1]]
        if self.recurrent is None:
            return e.transformed(tokens, clicks, later_unseen(1 + clicks.shape[1], clicks.device))
        read: Tensor = self.recurrent(torch.cat([e.class_vector(tokens), clicks], dim=1))[0]
        return read

    def loss(self, tokens: Tokens, _generator: torch.Generator, /) -> Tensor:
        states = self.states(tokens)[:, :-1]
        return click_loss(self.encoder.events, self.to_field, states, tokens.event_ids)

    def embed(self, tokens: Tokens) -> Tensor:
        """[B, 2D]: the last state, and the mean of all."""
        return last_and_mean(self.states(tokens), tokens.lengths)


def query_vectors(encoder: Encoder, tokens: Tokens) -> Tensor:
    """[B, T, D]: clicks' queries alone."""
    nothing = torch.zeros_like(tokens.event_ids), torch.zeros_like(tokens.dwell_z)
    return encoder.embed_clicks(tokens._replace(event_ids=nothing[0], dwell_z=nothing[1]))


def click_loss(events: FieldTable, to_field: nn.ModuleList, states: Tensor, event_ids: Tensor) -> Tensor:
    """Cross-entropy of a click's learnt fields, ids [..., F], given states [..., D]; mean over the fields."""
    terms = []
    for field, project in enumerate(to_field):
        ids = event_ids[..., field].long()
        at = ids > 0
        if at.any():
            logits = project(states[at]) @ events.of_field(field).T
            logits = torch.cat([torch.full_like(logits[:, :1], NEVER), logits[:, 1:]], dim=1)
            terms.append(F.cross_entropy(logits, ids[at]))
    return torch.stack(terms).mean() if terms else states.sum() * 0.0


def last_and_mean(states: Tensor, lengths: Tensor) -> Tensor:
    """[B, 2D] of states [B, N+1, D], the first of which is that before any of `lengths` [B] tokens."""
    last = states[torch.arange(len(states)), lengths.long()]
    return torch.cat([last, Encoder.pool(states, lengths)], dim=1)


def gru4rec(given: BaselineInput) -> Float64:
    """[S, 2D]"""
    return fitted(given, lambda encoder: NextClick(encoder, "recurrent"))


def sasrec(given: BaselineInput) -> Float64:
    """[S, 2D]"""
    return fitted(given, lambda encoder: NextClick(encoder, "causal"))
