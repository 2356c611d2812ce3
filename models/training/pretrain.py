"""Self-supervised pretraining: sessions in, encoder out. The same seed and threads give the same weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.utils.deterministic
from torch import nn

from models.tokenizer import Tokenizer
from models.training.config import TrainConfig
from models.training.corpus import Corpus
from models.training.encoder import Encoder, EncoderShape
from models.training.objectives import Losses, Objectives

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, losses as text)."""


@dataclass(frozen=True)
class Pretrained:
    encoder: Encoder
    losses: list[dict[str, float]]
    """Mean losses per epoch."""


def shape_of(tokenizer: Tokenizer, config: TrainConfig) -> EncoderShape:
    return EncoderShape(
        event_sizes=tuple(tokenizer.event_sizes),
        session_sizes=tuple(tokenizer.session_sizes),
        dim=config.dim,
        layers=config.layers,
        heads=config.heads,
        hidden=config.hidden,
    )


def new_encoder(tokenizer: Tokenizer, config: TrainConfig, generator: torch.Generator) -> Encoder:
    encoder = Encoder(shape_of(tokenizer, config))
    encoder.initialize(generator)
    return encoder


def pretrain(
    corpus: Corpus, tokenizer: Tokenizer, config: TrainConfig, generator: torch.Generator, progress: Progress
) -> Pretrained:
    encoder = new_encoder(tokenizer, config, generator)
    objectives = Objectives(encoder, config)
    objectives.initialize(generator)
    steps = config.epochs * len(corpus.batches(config.batch, torch.Generator()))
    optimizer = _optimizer(encoder, objectives, config)
    history: list[dict[str, float]] = []
    step = 0
    encoder.train()
    for _ in range(config.epochs):
        seen: list[dict[str, float]] = []
        for bucket, rows in corpus.batches(config.batch, generator):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * warm_then_cosine(step, steps, config.warmup_share)
            losses = objectives.losses(encoder, bucket.pick(rows), bucket.visitors_of(rows), generator)
            _step(optimizer, _total(losses, config), [*encoder.parameters(), *objectives.parameters()])
            values = {name: getattr(losses, name).item() for name in ("masked", "rest", "contrast")}
            seen.append(values)  # numbers: a loss would keep its step's whole graph
            step += 1
            progress(step, steps, f"hidden fields {values['masked']:.2f}, rest {values['rest']:.2f}")
        history.append(_means(seen))
    encoder.eval()
    return Pretrained(encoder, history)


def _optimizer(encoder: Encoder, objectives: Objectives, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; only the weights of linear layers decay."""
    modules = [*encoder.modules(), *objectives.modules()]
    decaying = [m.weight for m in modules if isinstance(m, nn.Linear)]
    known = {id(p) for p in decaying}
    others = [p for p in [*encoder.parameters(), *objectives.parameters()] if id(p) not in known]
    groups = [
        {"params": decaying, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor, parameters: list[nn.Parameter]) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()


def _total(losses: Losses, config: TrainConfig) -> torch.Tensor:
    return (
        config.weight_masked * losses.masked
        + config.weight_rest * losses.rest
        + config.weight_contrast * losses.contrast
    )


def warm_then_cosine(step: int, steps: int, warmup_share: float) -> float:
    """Linear up over the first share of the steps, then half a cosine down to 0."""
    warm = max(1, int(steps * warmup_share))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _means(seen: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(sum(losses[name] for losses in seen) / len(seen), 4) for name in seen[0]}


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Deterministic algorithms and a fixed number of threads, for the duration of the context."""
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    fill = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # Filling uninitialized memory is for debugging; here it would only cost a sixth of the time.
    settings.fill_uninitialized_memory = False
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = fill
        torch.set_num_threads(before[1])
