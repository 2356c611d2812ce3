"""The interface of a baseline, and the training loop that all share.

Sessions in, of which some may be learnt from; a vector of each out. Optimizer, schedule and batches are the
encoder's. S sessions, F numbers, N labelled sessions, P labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from streamer.models.arrays import Bool, Float64, Int64
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus
from streamer.models.training.encoder import Encoder, Tokens
from streamer.models.training.pretrain import deterministic, new_tokenizer, shape_of, warm_then_cosine
from streamer.schemas.click import Session

Loss = Callable[[Tokens, torch.Generator], Tensor]


@dataclass(frozen=True)
class Labelled:
    """Outcomes of some sessions; only supervised baselines look at them."""

    rows: Int64
    """[N]: indices of the sessions"""
    labels: Float64
    """[N, P]"""
    validation: Bool
    """[N]: which of them decide when to stop"""


@dataclass(frozen=True)
class BaselineInput:
    """What a baseline is given. Its generator is seeded from the config: the same input gives the same
    vectors."""

    sessions: Sequence[Session]
    learn_from: Bool
    """[S]"""
    config: TrainConfig
    """Width, layers, batch, learning rate, seed; as many epochs as the compute budget allows."""
    labelled: Labelled | None = None

    def tokenizer(self) -> Tokenizer:
        return new_tokenizer(self.learnable(), self.config)

    def learnable(self) -> list[Session]:
        return [session for session, learnt in zip(self.sessions, self.learn_from, strict=True) if learnt]

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.config.seed)


Baseline = Callable[[BaselineInput], Float64]
"""[S, F]"""


@torch.no_grad()
def embed_all(embed: Callable[..., torch.Tensor], corpus: Corpus, width: int) -> Float64:
    """[S, width] of `embed`, which takes tokens of one length bucket and gives [B, width]."""
    out = torch.zeros(corpus.size, width)
    for rows, tokens in corpus.in_order():
        out[rows] = embed(tokens)
    return out.numpy().astype(np.float64)


def fit(
    module: nn.Module,
    loss: Loss,
    corpus: Corpus,
    config: TrainConfig,
    generator: torch.Generator,
    before_epoch: Callable[[], None] = lambda: None,
) -> None:
    """`config.epochs` passes over the corpus; the module is in evaluation mode afterwards."""
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = config.epochs * len(corpus.batches(config.batch, torch.Generator()))
    module.train()
    step = 0
    for _ in range(config.epochs):
        before_epoch()
        for bucket, rows in corpus.batches(config.batch, generator):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * warm_then_cosine(step, steps, config.warmup_share)
            optimizer.zero_grad(set_to_none=True)
            loss(bucket.pick(rows), generator).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            step += 1
    module.eval()


class SelfSupervised(nn.Module):
    """A baseline with an encoder's tables and layers of its own, which sees no outcome."""

    encoder: Encoder

    def loss(self, tokens: Tokens, generator: torch.Generator, /) -> Tensor:
        raise NotImplementedError

    def embed(self, tokens: Tokens) -> Tensor:
        """[B, 2D]"""
        raise NotImplementedError

    def initialize(self, generator: torch.Generator) -> None:
        """Draws what isn't the encoder's nor of a linear or recurrent layer; here nothing."""

    def begin_epoch(self, corpus: Corpus, generator: torch.Generator) -> None:
        """Before each pass over the corpus; here nothing."""


def fitted(given: BaselineInput, build: Callable[[Encoder], SelfSupervised]) -> Float64:
    """[S, 2D]"""
    config, generator, tokenizer = given.config, given.generator(), given.tokenizer()
    with deterministic(config.threads):
        model = build(Encoder(shape_of(tokenizer, config)))
        draw_linear(model, generator)
        model.encoder.initialize(generator)
        model.initialize(generator)
        corpus = Corpus.of(given.learnable(), tokenizer)
        fit(model, model.loss, corpus, config, generator, lambda: model.begin_epoch(corpus, generator))
        return embed_all(model.embed, Corpus.of(given.sessions, tokenizer), 2 * config.dim)


def draw_linear(module: nn.Module, generator: torch.Generator) -> None:
    """Weights of all linear and recurrent layers from `generator`, biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.GRU):
            for name, parameter in part.named_parameters(recurse=False):
                with torch.no_grad():
                    if "bias" in name:
                        parameter.zero_()
                    else:
                        drawn = torch.randn(parameter.shape, generator=generator)
                        parameter.copy_(drawn * parameter.shape[1] ** -0.5)
