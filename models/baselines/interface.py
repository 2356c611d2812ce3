"""The one interface: sessions in, of which some may be learnt from; a vector of each out.

S sessions, F numbers, N labelled sessions, P labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from models.evaluation.features import Floats
from models.evaluation.splits import Ints
from models.evaluation.world import Bools
from models.tokenizer import Tokenizer
from models.training.config import TrainConfig
from models.training.corpus import Corpus
from schemas.click import Session


@dataclass(frozen=True)
class Labelled:
    """Outcomes of some sessions; only supervised baselines look at them."""

    rows: Ints
    """[N]: places among the sessions"""
    labels: Floats
    """[N, P]"""
    validation: Bools
    """[N]: which of them choose when to stop"""


@dataclass(frozen=True)
class BaselineInput:
    """What a baseline gets. Its generator is made of the seed: the same input gives the same vectors."""

    sessions: Sequence[Session]
    learn_from: Bools
    """[S]"""
    config: TrainConfig
    """Width, layers, batch, learning rate, seed; as many epochs as the compute budget allows."""
    labelled: Labelled | None = None

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.fit(self.learnable(), self.config.min_count, self.config.max_vocabulary)

    def learnable(self) -> list[Session]:
        return [session for session, learnt in zip(self.sessions, self.learn_from, strict=True) if learnt]

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.config.seed)


Baseline = Callable[[BaselineInput], Floats]
"""[S, F]"""


@torch.no_grad()
def embed_all(embed: Callable[..., torch.Tensor], corpus: Corpus, width: int) -> Floats:
    """[S, width] of `embed`, which takes tokens of one length bucket and gives [B, width]."""
    out = torch.zeros(corpus.size, width)
    for rows, tokens in corpus.in_order():
        out[rows] = embed(tokens)
    return out.numpy().astype(np.float64)
