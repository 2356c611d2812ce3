"""Sessions as training sees them: split by visitor, tokenized once, kept as tensors per length bucket.

A visitor's sessions all fall into one split. Bots are left out: they have no intent to learn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.tokenizer import Tokenizer
from models.training.encoder import Encoder, Tokens
from schemas.click import Session

Split = Literal["train", "validation", "test"]
_TRAIN_BELOW, _VALIDATION_BELOW = 60, 75

Float32 = npt.NDArray[np.float32]


def split_of(visitor_id: str) -> Split:
    """60, 15 and 25 % of the visitors, by hash: the same visitor always falls into the same split."""
    digest = hashlib.blake2b(visitor_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"split")
    percent = int.from_bytes(digest.digest(), "big") % 100
    if percent < _TRAIN_BELOW:
        return "train"
    return "validation" if percent < _VALIDATION_BELOW else "test"


def by_split(sessions: Iterable[Session]) -> dict[Split, list[Session]]:
    """Sessions of people by split, in order of (started_at, session_id)."""
    splits: dict[Split, list[Session]] = {"train": [], "validation": [], "test": []}
    for session in sorted(sessions, key=lambda s: (s.started_at, s.session_id)):
        if not session.is_bot and session.clicks:
            splits[split_of(session.visitor_id)].append(session)
    return splits


@dataclass(frozen=True)
class LengthBucket:
    """The sessions of one length bucket."""

    rows: Tensor
    """[N]: their places among the sessions of the corpus"""
    tokens: Tokens
    visitors: Tensor
    """[N]: a number per visitor"""


@dataclass(frozen=True)
class Corpus:
    """Tokenized sessions."""

    size: int
    buckets: tuple[LengthBucket, ...]

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

    def batches(self, size: int, generator: torch.Generator) -> list[tuple[LengthBucket, Tensor]]:
        """One epoch in random order: (bucket, which of its sessions), each of one length bucket."""
        chunks = [
            (bucket, chunk)
            for bucket in self.buckets
            for chunk in torch.split(torch.randperm(len(bucket.rows), generator=generator), size)
        ]
        order = torch.randperm(len(chunks), generator=generator)
        return [chunks[i] for i in order.tolist()]

    def in_order(self, size: int = 512) -> Iterator[tuple[Tensor, Tokens]]:
        """(rows, tokens) of all sessions, bucket by bucket."""
        for bucket in self.buckets:
            for chunk in torch.split(torch.arange(len(bucket.rows)), size):
                yield bucket.rows[chunk], pick(bucket.tokens, chunk)


def pick(tokens: Tokens, rows: Tensor) -> Tokens:
    return Tokens(*(field[rows] for field in tokens))


def slice_clicks(tokens: Tokens, start: Tensor, lengths: Tensor) -> Tokens:
    """Clicks `start` to `start + lengths` of each session as sessions of their own, without class fields.

    Device, referrer and hour are hidden, else two slices of a session would be known by them alone.
    """
    width = int(lengths.max())
    at = torch.arange(width)
    inside = at < lengths.unsqueeze(1)
    source = (start.unsqueeze(1) + at).clamp(max=tokens.dwell_z.shape[1] - 1)
    fields = tokens.event_ids.shape[2]
    return Tokens(
        event_ids=tokens.event_ids.gather(1, source.unsqueeze(2).expand(-1, -1, fields))
        * inside.unsqueeze(2),
        dwell_z=tokens.dwell_z.gather(1, source) * inside,
        query_slot=tokens.query_slot.gather(1, source) * inside,
        query_ids=tokens.query_ids,
        session_ids=torch.zeros_like(tokens.session_ids),
        lengths=lengths.to(torch.int32),
    )


@torch.no_grad()
def embed(encoder: Encoder, corpus: Corpus) -> Float32:
    """[N, D]: the embedding of every session, in the corpus' order."""
    encoder.eval()
    out = torch.zeros(corpus.size, encoder.shape.dim)
    for rows, tokens in corpus.in_order():
        out[rows] = encoder(*tokens)
    result: Float32 = out.numpy()
    return result
