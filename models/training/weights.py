"""Weights of a torch module in a file of numpy's own format: arrays only, no pickle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch


def save_weights(module: torch.nn.Module, path: Path) -> None:
    arrays = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_weights(module: torch.nn.Module, path: Path) -> None:
    with np.load(path, allow_pickle=False) as stored:
        module.load_state_dict({name: torch.from_numpy(stored[name]) for name in stored.files})
