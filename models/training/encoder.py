"""The encoder: tokens of a session in, one vector out. Shapes: B sessions, T clicks, F fields, D wide.

x = sum_f E_f[id_f] + w z(dwell) + Q[query], a residual MLP, positions from both ends, a class token that
holds device, referrer and hour, a pre-norm Transformer, and a readout of the tokens that aren't padding:
their mean, or their maximum and the last click's besides; or these three of what each click knew when it was
the last. It exports to standard ONNX operators only, none with data-dependent shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamer.models.encoded import LENGTH_BUCKETS
from streamer.models.fields import DWELL
from streamer.models.queries import QUERY_BUCKETS

MAX_CLICKS = LENGTH_BUCKETS[-1]
_INIT_STD = 0.05
NEVER = -1e9
"""The logit of what can't be chosen or attended to."""

MEAN: Final = "mean"
MEAN_MAX_LAST: Final = "mean+max+last"
CAUSAL: Final = "causal"
"""Mean, maximum and last of the states that the causal objective learns."""
READOUTS: Final = {MEAN: 1, MEAN_MAX_LAST: 3, CAUSAL: 3}
"""How many vectors of the encoder's width an embedding consists of."""


@dataclass(frozen=True)
class EncoderShape:
    """Everything that determines the encoder's parameters."""

    event_sizes: tuple[int, ...]
    """Ids of each field."""
    session_sizes: tuple[int, ...]
    dim: int = 64
    layers: int = 2
    heads: int = 4
    hidden: int = 128
    readout: str = MEAN
    """What `forward` gives; no parameter depends on it."""
    event_columns: tuple[int, ...] | None = None
    """Which field each column of `event_ids` belongs to; None: one column a field."""

    @property
    def columns(self) -> tuple[int, ...]:
        """Which field each column belongs to."""
        return self.event_columns or tuple(range(len(self.event_sizes)))

    @property
    def embedding_dim(self) -> int:
        return self.dim * READOUTS[self.readout]


class Tokens(NamedTuple):
    """The encoder's inputs, in the order and by the names of the exported graph; see `Encoded`."""

    event_ids: Tensor
    """[B, T, C] int32; C columns, one or several of each field"""
    dwell_z: Tensor
    """[B, T] float32"""
    query_slot: Tensor
    """[B, T] int32"""
    query_ids: Tensor
    """[B, S, G] int32"""
    session_ids: Tensor
    """[B, 3] int32"""
    lengths: Tensor
    """[B] int32; 0 for a row that is padding"""


def _draw(parameter: Tensor, std: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * std)


def later_unseen(count: int, device: torch.device) -> Tensor:
    """[N, N]: the bias of causal attention, very negative for what comes later."""
    return torch.full((count, count), NEVER, device=device).triu(1)


class FieldTable(nn.Module):
    """One table for several fields. Id 0 of every field is row 0 and stays zero."""

    offsets: Tensor
    """Of each column."""

    def __init__(self, sizes: tuple[int, ...], dim: int, columns: tuple[int, ...] | None = None) -> None:
        """`columns`: which field each column of ids belongs to; none: one column a field."""
        super().__init__()
        self.sizes = sizes
        self.starts = [0, *accumulate(sizes[:-1])]
        of_columns = range(len(sizes)) if columns is None else columns
        offsets = torch.tensor([self.starts[field] for field in of_columns], dtype=torch.int32)
        self.register_buffer("offsets", offsets)
        self.rows = nn.Embedding(sum(sizes), dim, padding_idx=0)

    def forward(self, ids: Tensor) -> Tensor:
        """[..., C] to [..., D]: the sum over the columns."""
        present = (ids > 0).to(torch.int32)
        summed: Tensor = self.rows((ids + self.offsets) * present).sum(-2)
        return summed

    def of_field(self, field: int) -> Tensor:
        """[V_f, D]: the rows of one field; its row 0 belongs to no value."""
        start = self.starts[field]
        rows: Tensor = self.rows.weight[start : start + self.sizes[field]]
        return rows


class Block(nn.Module):
    """Pre-norm attention and feed-forward, both residual."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm_attention = nn.LayerNorm(shape.dim)
        self.queries_keys_values = nn.Linear(shape.dim, 3 * shape.dim)
        self.mix = nn.Linear(shape.dim, shape.dim)
        self.norm_forward = nn.LayerNorm(shape.dim)
        self.widen = nn.Linear(shape.dim, shape.hidden)
        self.narrow = nn.Linear(shape.hidden, shape.dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [B, T+1, D]; bias, which broadcasts to [B, 1, T+1, T+1], is very negative where a token isn't
        seen, else 0."""
        x = x + self._attend(self.norm_attention(x), bias)
        wide = F.relu(self.widen(self.norm_forward(x)))
        narrowed: Tensor = self.narrow(wide)
        return x + narrowed

    def _attend(self, x: Tensor, bias: Tensor) -> Tensor:
        b, t, d = x.shape
        split: Tensor = self.queries_keys_values(x).reshape(b, t, 3, self.heads, d // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        scores = q @ k.transpose(-1, -2) * (d // self.heads) ** -0.5 + bias
        mixed: Tensor = self.mix((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, d))
        return mixed


class Encoder(nn.Module):
    """`forward` is exported; pretraining reads `hidden_states`."""

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        d = shape.dim
        self.events = FieldTable(shape.event_sizes, d, shape.columns)
        self.session = FieldTable(shape.session_sizes, d)
        self.queries = nn.Embedding(1 + QUERY_BUCKETS, d, padding_idx=0)
        self.dwell = nn.Parameter(torch.zeros(d))
        self.class_token = nn.Parameter(torch.zeros(d))
        self.from_start = nn.Parameter(torch.zeros(MAX_CLICKS, d))
        self.from_end = nn.Parameter(torch.zeros(MAX_CLICKS, d))
        self.norm_event = nn.LayerNorm(d)
        self.widen_event = nn.Linear(d, shape.hidden)
        self.narrow_event = nn.Linear(shape.hidden, d)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm_out = nn.LayerNorm(d)

    def initialize(self, generator: torch.Generator) -> None:
        """Draws every parameter from `generator`: norms stay 1, biases 0, padding rows 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _draw(module.weight, module.in_features**-0.5, generator)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                _draw(module.weight, _INIT_STD, generator)
                nn.init.zeros_(module.weight[0])
        for vector in (self.dwell, self.class_token, self.from_start, self.from_end):
            _draw(vector, _INIT_STD, generator)

    def forward(
        self,
        event_ids: Tensor,
        dwell_z: Tensor,
        query_slot: Tensor,
        query_ids: Tensor,
        session_ids: Tensor,
        lengths: Tensor,
    ) -> Tensor:
        """[B, D]: the session's embedding; [B, 3D] of three readouts."""
        tokens = Tokens(event_ids, dwell_z, query_slot, query_ids, session_ids, lengths)
        hidden = self.causal_states(tokens) if self.shape.readout == CAUSAL else self.hidden_states(tokens)
        mean = self.pool(hidden, lengths)
        if self.shape.readout == MEAN:
            return mean
        padding = (1.0 - self.mask(lengths, hidden.shape[1])).unsqueeze(-1) * NEVER
        last = hidden[torch.arange(len(hidden), device=hidden.device), lengths.long()]
        return torch.cat([mean, (hidden + padding).amax(1), last], dim=1)

    def mean_of(self, tokens: Tokens) -> Tensor:
        """[B, D], whatever the readout."""
        return self.pool(self.hidden_states(tokens), tokens.lengths)

    def embed_clicks(self, tokens: Tokens) -> Tensor:
        """[B, T, D]: clicks without position or context."""
        dwell = tokens.dwell_z.unsqueeze(-1) * self.dwell
        fields: Tensor = self.events(tokens.event_ids)
        return fields + dwell + self._embed_queries(tokens)

    def _embed_queries(self, tokens: Tokens) -> Tensor:
        """[B, T, D]: every click's query, the sum of its hashes' rows over the root of their number."""
        count = (tokens.query_ids > 0).sum(-1, keepdim=True).clamp(min=1)
        of_slot = self.queries(tokens.query_ids).sum(-2) * count.to(torch.float32).rsqrt()
        slots = torch.arange(1, of_slot.shape[1] + 1, dtype=torch.int32, device=of_slot.device)
        chosen: Tensor = (tokens.query_slot.unsqueeze(-1) == slots).to(torch.float32) @ of_slot
        return chosen

    def hidden_states(self, tokens: Tokens, extra: Tensor | None = None) -> Tensor:
        """[B, T+1, D], the class token first. `extra` [B, T, D] is added to the clicks' embeddings."""
        clicks = self.click_vectors(tokens, extra) + self._positions(tokens)
        padding = (1.0 - self.mask(tokens.lengths, 1 + clicks.shape[1])) * NEVER
        return self.transformed(tokens, clicks, padding[:, None, None, :])

    def causal_states(self, tokens: Tokens) -> Tensor:
        """[B, T+1, D]: state t knows the class token and the first t clicks, and not how many follow.

        Nor does it know a dwell, which may tell when the next click came, and whether there was one.
        """
        timed = torch.ones(tokens.event_ids.shape[2], dtype=torch.int32, device=tokens.lengths.device)
        timed[DWELL] = 0
        tokens = tokens._replace(event_ids=tokens.event_ids * timed, dwell_z=torch.zeros_like(tokens.dwell_z))
        clicks = self.click_vectors(tokens)
        width = clicks.shape[1]
        later = later_unseen(1 + width, clicks.device)
        return self.transformed(tokens, clicks + self.from_start[:width], later)

    def click_vectors(self, tokens: Tokens, extra: Tensor | None = None) -> Tensor:
        """[B, T, D]: clicks without position or context; `extra` is added to what their fields give."""
        clicks = self.embed_clicks(tokens)
        clicks = clicks if extra is None else clicks + extra
        mixed: Tensor = self.narrow_event(F.relu(self.widen_event(self.norm_event(clicks))))
        return clicks + mixed

    def transformed(self, tokens: Tokens, clicks: Tensor, bias: Tensor) -> Tensor:
        """[B, T+1, D]: what the blocks make of clicks [B, T, D] behind the class token."""
        x = torch.cat([self.class_vector(tokens), clicks], dim=1)
        for block in self.blocks:
            x = block(x, bias)
        normed: Tensor = self.norm_out(x)
        return normed

    def class_vector(self, tokens: Tokens) -> Tensor:
        """[B, 1, D]: the class token with the session's context."""
        fields: Tensor = self.session(tokens.session_ids)
        return (fields + self.class_token).unsqueeze(1)

    def _positions(self, tokens: Tokens) -> Tensor:
        """[B, T, D]: position from the start and position from the end."""
        t = tokens.dwell_z.shape[1]
        at = torch.arange(t, dtype=torch.int32, device=tokens.lengths.device)
        to_end = (tokens.lengths.unsqueeze(1) - 1 - at).clamp(min=0)
        return self.from_start[:t] + F.embedding(to_end, self.from_end)

    @staticmethod
    def mask(lengths: Tensor, width: int) -> Tensor:
        """[B, width] float: 1 for the class token and the clicks, 0 for padding."""
        at = torch.arange(width, dtype=torch.int32, device=lengths.device)
        return (at <= lengths.unsqueeze(1)).to(torch.float32)

    @staticmethod
    def pool(hidden: Tensor, lengths: Tensor) -> Tensor:
        """[B, D]: the mean over tokens that aren't padding."""
        weights = Encoder.mask(lengths, hidden.shape[1]).unsqueeze(-1)
        return (hidden * weights).sum(1) / weights.sum(1)
