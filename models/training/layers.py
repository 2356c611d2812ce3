"""Initializing and fitting layers on a frozen embedding; all randomness comes from the generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from streamer.models.training.config import TrainConfig


def draw_layers(layers: Sequence[nn.Linear], generator: torch.Generator) -> None:
    for layer in layers:
        with torch.no_grad():
            drawn = torch.randn(layer.weight.shape, generator=generator)
            layer.weight.copy_(drawn * layer.in_features**-0.5)
            layer.bias.zero_()


def descend(
    layers: Sequence[nn.Linear],
    loss_of: Callable[[Tensor], Tensor],
    count: int,
    config: TrainConfig,
    generator: torch.Generator,
) -> None:
    """Fits the layers to `count` examples; `loss_of` takes the indices of a batch."""
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.head_learning_rate)
    steps = config.head_epochs * -(-count // config.head_batch)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(config.head_epochs):
        for rows in torch.split(torch.randperm(count, generator=generator), config.head_batch):
            optimizer.zero_grad()
            loss_of(rows).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            falling.step()
