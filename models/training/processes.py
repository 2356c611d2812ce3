"""Data-parallel training: which part of a batch a process has, and what processes tell each other.

Each has the whole model and a part of every batch. Gradients are averaged once a step, all in one vector, so
that processes exchange the same things in the same order whatever their sessions have in them. Contrast is
with the sessions of all processes. A process alone exchanges nothing. W processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from streamer.models.training.errors import TrainingError


@dataclass(frozen=True)
class Processes:
    """Of a group that `torch.distributed` has initialized, if there is more than one."""

    rank: int = 0
    """Of this process, from 0."""
    count: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def part(self, rows: Tensor, parts: int) -> list[Tensor]:
        """This process' rows of a batch [B], in so many parts, none of them empty.

        A batch of fewer sessions than there are parts in all is repeated.
        """
        if self.count * parts == 1:
            return [rows]
        least = self.count * parts
        if len(rows) < least:
            rows = rows.repeat(-(-least // len(rows)))[:least]
        return [rows[self.rank * parts + place :: least] for place in range(parts)]

    def average(self, parameters: Sequence[nn.Parameter], values: Tensor) -> Tensor:
        """Averages gradients in place, and `values` [V], which it returns."""
        if self.count == 1:
            return values
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        vector = torch.cat([values.to(gradients[0]), *(each.reshape(-1) for each in gradients)])
        with _exchange():
            dist.all_reduce(vector)
        vector /= self.count
        sizes = [len(values), *(each.numel() for each in gradients)]
        averaged, *pieces = torch.split(vector, sizes)
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)
        return averaged

    def everyones(self, tensor: Tensor) -> Tensor:
        """[W, ...]: the tensor of each process, all of one shape; without gradients."""
        if self.count == 1:
            return tensor.unsqueeze(0)
        found = [torch.empty_like(tensor) for _ in range(self.count)]
        with _exchange():
            dist.all_gather(found, tensor.contiguous())
        return torch.stack(found)

    def joined(self, vectors: Tensor) -> tuple[Tensor, int]:
        """[N, ...]: the vectors [n, ...] of all processes end to end, with gradients; where one's own begin.

        `vectors` must need a gradient, also where there are none: all processes have to take part in its way
        back.
        """
        counts = self._counts(vectors)
        gathered: Tensor = _Gather.apply(_padded(vectors, max(counts)), self)
        return _end_to_end(gathered, counts), sum(counts[: self.rank])

    def joined_numbers(self, numbers: Tensor) -> Tensor:
        """[N]: the numbers [n] of all processes end to end."""
        counts = self._counts(numbers)
        return _end_to_end(self.everyones(_padded(numbers, max(counts))), counts)

    def _counts(self, tensor: Tensor) -> list[int]:
        counts: list[int] = self.everyones(torch.tensor(len(tensor), device=tensor.device)).tolist()
        return counts


@contextmanager
def _exchange() -> Iterator[None]:
    """torch.distributed has no error of its own for a process that is gone."""
    try:
        yield
    except RuntimeError as error:
        raise TrainingError(
            "another process of this training has ended or can't be reached: its own message says why. Start"
            " all of them again, with --resume to go on from the last checkpoint"
        ) from error


def _padded(tensor: Tensor, length: int) -> Tensor:
    return torch.cat([tensor, tensor.new_zeros(length - len(tensor), *tensor.shape[1:])])


def _end_to_end(gathered: Tensor, counts: Sequence[int]) -> Tensor:
    return torch.cat([each[:count] for each, count in zip(gathered, counts, strict=True)])


ALONE = Processes()


@contextmanager
def started_by_torchrun(environ: Mapping[str, str], device: torch.device) -> Iterator[Processes]:
    """The processes that `torchrun` names in the environment; one alone where it didn't start this one."""
    count = int(environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(int(environ["RANK"]), count)
    finally:
        dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    """`everyones` with gradients: what each process owes to a vector is added up."""

    @staticmethod
    def forward(context: Any, tensor: Tensor, processes: Processes) -> Tensor:
        context.rank = processes.rank
        return processes.everyones(tensor)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        summed = gradients[0].contiguous()
        with _exchange():
            dist.all_reduce(summed)
        return summed[context.rank], None
