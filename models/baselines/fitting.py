"""One training loop for all baselines: the encoder's optimizer, schedule and batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.training.config import TrainConfig
from models.training.corpus import Corpus, pick
from models.training.encoder import Tokens
from models.training.pretrain import warm_then_cosine

Loss = Callable[[Tokens, torch.Generator], Tensor]


def fit(
    module: nn.Module, loss: Loss, corpus: Corpus, config: TrainConfig, generator: torch.Generator
) -> None:
    """`config.epochs` passes over the corpus; the module is in evaluation mode afterwards."""
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    steps = config.epochs * len(corpus.batches(config.batch, torch.Generator()))
    module.train()
    step = 0
    for _ in range(config.epochs):
        for bucket, rows in corpus.batches(config.batch, generator):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * warm_then_cosine(step, steps, config.warmup_share)
            optimizer.zero_grad(set_to_none=True)
            loss(pick(bucket.tokens, rows), generator).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            step += 1
    module.eval()


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
