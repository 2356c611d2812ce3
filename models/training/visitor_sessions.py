"""Which sessions of a corpus are the same visitor's, to contrast them with each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamer.models.training.corpus import Corpus
from streamer.models.training.encoder import Tokens


class Others(NamedTuple):
    """Of a batch's sessions, P of which have another one of the same visitor."""

    which: Tensor
    """[P]: places in the batch"""
    rows: Tensor
    """[P]: the other session's index in the corpus"""


class VisitorSessions:
    """Holds 48 bytes a session."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        visitors, self._bucket, self._place = (torch.zeros(corpus.size, dtype=torch.int64) for _ in range(3))
        for number, bucket in enumerate(corpus.buckets):
            places = torch.arange(len(bucket.rows))
            visitors[bucket.rows] = bucket.visitors_of(places)
            self._bucket[bucket.rows] = number
            self._place[bucket.rows] = places
        self._order = visitors.argsort(stable=True)
        _, own, sizes = np.unique(visitors.numpy(), return_inverse=True, return_counts=True)
        visitor, counts = torch.from_numpy(own), torch.from_numpy(sizes)
        self._count = counts[visitor]
        self._first = (counts.cumsum(0) - counts)[visitor]
        """Where a session's visitor begins in the order."""
        self._rank = torch.empty_like(self._order)
        self._rank[self._order] = torch.arange(corpus.size)

    def others(self, rows: Tensor, generator: torch.Generator) -> Others:
        """For each of `rows` [B] of the corpus one of the visitor's other sessions, drawn at random."""
        drawn = torch.rand(len(rows), generator=generator, device=generator.device).cpu()
        which = (self._count[rows] > 1).nonzero().squeeze(1)
        some = rows[which]
        count, first = self._count[some], self._first[some]
        # Below count - 1 by construction; a product of floats may round up to it.
        step = 1 + (drawn[which] * (count - 1)).long().clamp(max=count - 2)
        return Others(which, self._order[first + (self._rank[some] - first + step) % count])

    def tokens(self, rows: Tensor) -> Iterator[tuple[Tensor, Tokens]]:
        """(which of `rows`, their tokens), by length bucket."""
        for number, bucket in enumerate(self._corpus.buckets):
            which = (self._bucket[rows] == number).nonzero().squeeze(1)
            if len(which):
                yield which, bucket.pick(self._place[rows[which]])
