"""Sessions as training sees them: split by visitor, tokenized once, in length buckets.

A visitor's sessions all fall into one split. Bots are left out: they have no intent to learn. Here tokens are
held in memory; `token_shards.py` has them on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from streamer.models.arrays import Float32
from streamer.models.fields import DWELL, EVENT_FIELDS, GAP
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.encoder import Encoder, Tokens
from streamer.models.visitor_splits import SplitName, split_of
from streamer.schemas.click import Session

_OF_PAGE = [EVENT_FIELDS.index(name) for name in ("page_type", "path_1", "path_2", "path_3")]
_OF_EVENT = [EVENT_FIELDS.index(name) for name in ("event_type", "element")]


def by_split(sessions: Iterable[Session]) -> dict[SplitName, list[Session]]:
    """Sessions of people by split, in order of (started_at, session_id)."""
    splits: dict[SplitName, list[Session]] = {"train": [], "validation": [], "test": []}
    for session in sorted(sessions, key=lambda s: (s.started_at, s.session_id)):
        if is_learnt_from(session):
            splits[split_of(session.visitor_id)].append(session)
    return splits


def is_learnt_from(session: Session) -> bool:
    return not session.is_bot and bool(session.clicks)


class Bucket(Protocol):
    """The sessions of one length bucket."""

    @property
    def rows(self) -> Tensor:
        """[N]: their indices in the corpus"""

    def pick(self, which: Tensor) -> Tokens:
        """Of the sessions at `which` [B], places in the bucket."""

    def visitors_of(self, which: Tensor) -> Tensor:
        """[B]: a number per visitor"""


@dataclass(frozen=True)
class LengthBucket:
    """A bucket in memory."""

    rows: Tensor
    tokens: Tokens
    visitors: Tensor

    def pick(self, which: Tensor) -> Tokens:
        return pick(self.tokens, which)

    def visitors_of(self, which: Tensor) -> Tensor:
        return self.visitors[which]


@dataclass(frozen=True)
class Corpus:
    """Tokenized sessions."""

    size: int
    buckets: tuple[Bucket, ...]

    @classmethod
    def of(cls, sessions: Sequence[Session], tokenizer: Tokenizer) -> Corpus:
        number_of = {v: i for i, v in enumerate(dict.fromkeys(s.visitor_id for s in sessions))}
        visitors = torch.tensor([number_of[s.visitor_id] for s in sessions], dtype=torch.int64)
        buckets = []
        for encoded in tokenizer.encode(sessions):
            rows = torch.from_numpy(encoded.rows.astype(np.int64))
            tokens = Tokens(*(torch.from_numpy(getattr(encoded, name)) for name in Tokens._fields))
            buckets.append(LengthBucket(rows, tokens, visitors[rows]))
        return cls(len(sessions), tuple(buckets))

    def batches(self, size: int, generator: torch.Generator) -> list[tuple[Bucket, Tensor]]:
        """One epoch in random order: (bucket, which of its sessions), each of one length bucket."""
        chunks = [
            (bucket, chunk)
            for bucket in self.buckets
            for chunk in torch.split(torch.randperm(len(bucket.rows), generator=generator), size)
        ]
        order = torch.randperm(len(chunks), generator=generator)
        return [chunks[i] for i in order.tolist()]

    def batch_count(self, size: int) -> int:
        """Of an epoch."""
        return sum(-(-len(bucket.rows) // size) for bucket in self.buckets)

    def in_order(self, size: int = 512) -> Iterator[tuple[Tensor, Tokens]]:
        """(rows, tokens) of all sessions, bucket by bucket."""
        for bucket in self.buckets:
            for chunk in torch.split(torch.arange(len(bucket.rows)), size):
                yield bucket.rows[chunk], bucket.pick(chunk)


def pick(tokens: Tokens, rows: Tensor) -> Tokens:
    return Tokens(*(field[rows] for field in tokens))


def moved(tokens: Tokens, device: torch.device) -> Tokens:
    return Tokens(*(field.to(device) for field in tokens))


def slice_clicks(tokens: Tokens, start: Tensor, lengths: Tensor) -> Tokens:
    """Clicks `start` to `start + lengths` of each session as sessions of their own, without class fields.

    Device, referrer and hour are hidden, else they alone would identify two slices of one session. For the
    same reason, and because a session of these clicks would not have them, the first click has no gap, and
    the last one no dwell that is the gap to a click outside.
    """
    width = int(lengths.max())
    at = torch.arange(width, device=lengths.device)
    inside = at < lengths.unsqueeze(1)
    source = (start.unsqueeze(1) + at).clamp(max=tokens.dwell_z.shape[1] - 1)
    fields = tokens.event_ids.shape[2]
    known = dwell_is_gap(tokens.event_ids).gather(1, source) & (at == lengths.unsqueeze(1) - 1)
    event_ids = tokens.event_ids.gather(1, source.unsqueeze(2).expand(-1, -1, fields)) * inside.unsqueeze(2)
    event_ids[:, 0, GAP] = 0
    event_ids[:, :, DWELL] *= ~known
    return Tokens(
        event_ids=event_ids,
        dwell_z=tokens.dwell_z.gather(1, source) * (inside & ~known),
        query_slot=tokens.query_slot.gather(1, source) * inside,
        query_ids=tokens.query_ids,
        session_ids=torch.zeros_like(tokens.session_ids),
        lengths=lengths.to(torch.int32),
    )


def without_events_of_pages(tokens: Tokens) -> Tokens:
    """Without the event type and element of clicks that have a page; other clicks may have little else."""
    has_page = (tokens.event_ids[:, :, _OF_PAGE] > 0).any(2, keepdim=True)
    event_ids = tokens.event_ids.clone()
    event_ids[:, :, _OF_EVENT] *= ~has_page
    return tokens._replace(event_ids=event_ids)


def dwell_is_gap(event_ids: Tensor) -> Tensor:
    """[B, T]: whether a click's dwell is in the bucket of the next one's gap, and so can be read from it.

    Where a site sends no dwell it always is; where it sends one, it sometimes is as well.
    """
    dwell, gap = event_ids[:, :, DWELL], event_ids[:, :, GAP]
    next_gap = torch.cat([gap[:, 1:], torch.zeros_like(gap[:, :1])], dim=1)
    return (dwell == next_gap) & (dwell > 0)


@torch.no_grad()
def embed(encoder: Encoder, corpus: Corpus) -> Float32:
    """[N, D]: the embedding of every session, in the corpus' order."""
    encoder.eval()
    out = torch.zeros(corpus.size, encoder.shape.embedding_dim)
    for rows, tokens in corpus.in_order():
        out[rows] = encoder(*tokens)
    result: Float32 = out.numpy()
    return result
