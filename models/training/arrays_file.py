"""Weights and other arrays in a file: numpy archives of plain arrays, written whole; nothing is unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch

from streamer.models.whole_file import whole_file


def save_weights(module: torch.nn.Module, path: Path) -> None:
    save_arrays(path, **{name: tensor.numpy() for name, tensor in module.state_dict().items()})


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Raises ValueError if the file isn't one of this module's weights."""
    arrays = load_arrays(path)
    try:
        module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except (RuntimeError, TypeError):
        raise ValueError(f"{path.name} can't be read: its weights are of another shape") from None


def save_arrays(path: Path, **arrays: npt.NDArray[Any]) -> None:
    with whole_file(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Raises ValueError if the file isn't one of arrays."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, BadZipFile, AttributeError) as error:
        raise ValueError(f"{path.name} can't be read ({type(error).__name__})") from None
