"""Checkpoints of pretraining: all that a run needs to go on as if it had never been stopped.

One archive of plain arrays, written whole or not at all: weights, optimizer, generators, the place in the
epoch, and the facts of the run, which tell a checkpoint of another run apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from streamer.models.tokenizer import Tokenizer
from streamer.models.training.arrays_file import load_arrays, save_arrays
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus
from streamer.models.training.errors import TrainingError

FORMAT = 3
_WEIGHTS, _OPTIMIZER = "weights/", "optimizer/"
_AFRESH = "remove it, or pretrain without --resume"


class CheckpointError(TrainingError):
    """A checkpoint can't be read, or is of another run."""


@dataclass
class Position:
    """Where a run is."""

    sums: dict[str, float]
    """Losses of the epoch's steps so far."""
    counts: dict[str, int]
    """Steps of the epoch in which each was learnt."""
    order: Tensor
    """State of the generator before it put the epoch's batches in order."""
    epoch: int = 0
    done: int = 0
    """Batches of the epoch."""
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    """Mean losses per epoch."""

    @classmethod
    def start(cls, losses: Collection[str], order: Tensor) -> Self:
        return cls(dict.fromkeys(losses, 0.0), dict.fromkeys(losses, 0), order)

    def add(self, losses: Mapping[str, float]) -> None:
        """Those that were learnt in a step."""
        for name, value in losses.items():
            self.sums[name] += value
            self.counts[name] += 1
        self.done += 1
        self.step += 1

    def means(self) -> dict[str, float]:
        """Of the epoch so far; 0 for what wasn't learnt in it."""
        return {name: total / max(1, self.counts[name]) for name, total in self.sums.items()}

    def end_epoch(self) -> None:
        self.history.append({name: round(mean, 4) for name, mean in self.means().items()})
        self.sums = dict.fromkeys(self.sums, 0.0)
        self.counts = dict.fromkeys(self.counts, 0)
        self.epoch += 1
        self.done = 0


@dataclass(frozen=True)
class Checkpoint:
    facts: dict[str, Any]
    position: Position
    weights: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    """By place of the parameter."""
    draws: Tensor
    """[W, ...]: state of each process' generator of what is hidden and where sessions are cut."""


def run_facts(
    config: TrainConfig, tokenizer: Tokenizer, corpus: Corpus, **execution: str | int
) -> dict[str, Any]:
    """All that has to be the same for a run to go on."""
    apart = {"name", "fields", "hashed"}  # the last two are in the tokenizer
    of_recipe = {name: value for name, value in asdict(config).items() if name not in apart}
    digest = hashlib.sha256(tokenizer.to_json().encode()).hexdigest()
    return {"format": FORMAT, **of_recipe, "tokenizer": digest, "sessions": corpus.size, **execution}


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    at = checkpoint.position
    parts = ("epoch", "done", "step", "sums", "counts", "history")
    position = {name: getattr(at, name) for name in parts}
    arrays = {
        "facts": _text(checkpoint.facts),
        "position": _text(position),
        "order": at.order.numpy(),
        "draws": checkpoint.draws.numpy(),
        **{f"{_WEIGHTS}{name}": tensor.cpu().numpy() for name, tensor in checkpoint.weights.items()},
        **{
            f"{_OPTIMIZER}{place}/{name}": tensor.cpu().numpy()
            for place, state in checkpoint.optimizer.items()
            for name, tensor in state.items()
        },
    }
    save_arrays(path, **arrays)


def read_checkpoint(path: Path, facts: Mapping[str, Any]) -> Checkpoint:
    """Raises CheckpointError if it isn't one of a run with these facts."""
    try:
        arrays = {name: torch.from_numpy(array) for name, array in load_arrays(path).items()}
        found, position = _parsed(arrays["facts"]), _parsed(arrays["position"])
        for name, value in facts.items():
            if found.get(name) != value:
                raise CheckpointError(
                    f"{path}: of another run: {name} was {found.get(name)}, expected {value}; {_AFRESH}"
                )
        optimizer: dict[int, dict[str, Tensor]] = {}
        for name, array in arrays.items():
            if name.startswith(_OPTIMIZER):
                _, place, part = name.split("/")
                optimizer.setdefault(int(place), {})[part] = array
        return Checkpoint(
            found,
            Position(**position, order=arrays["order"]),
            {name.removeprefix(_WEIGHTS): each for name, each in arrays.items() if name.startswith(_WEIGHTS)},
            optimizer,
            arrays["draws"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: can't be read ({type(error).__name__}); {_AFRESH}") from None


def _text(document: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(json.dumps(document).encode(), np.uint8)


def _parsed(text: Tensor) -> dict[str, Any]:
    document = json.loads(text.numpy().tobytes())
    if not isinstance(document, dict):
        raise TypeError
    return document
