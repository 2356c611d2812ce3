"""How pretraining runs: on which device, in how many processes, from which checkpoint on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.errors import UsageError

if TYPE_CHECKING:
    import torch

    from streamer.models.training.pretrain import Execution


class Precision(StrEnum):
    """Of products of matrices."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


Device = Annotated[
    str, typer.Option("--device", metavar="NAME", help="cpu, cuda or cuda:1, as torch names devices.")
]
PrecisionOption = Annotated[
    Precision | None,
    typer.Option("--precision", help="Of products of matrices. Default: bfloat16 on a GPU, else float32."),
]
Accumulate = Annotated[
    int,
    typer.Option(
        "--accumulate", min=1, help="Parts of a batch whose gradients add up to one step: less memory."
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile what the encoder does in a step (torch.compile). Takes a C++ compiler."
    ),
]
Batch = Annotated[
    int | None, typer.Option("--batch", min=2, help="Sessions of a step, of all processes. Default: 64.")
]
Every = Annotated[
    int, typer.Option("--checkpoint-every", metavar="STEPS", min=1, help="Steps between checkpoints.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the checkpoint in the work folder, if there is one.")
]


@contextmanager
def execution(
    device: str, precision: Precision | None, accumulate: int, compiles: bool, every: int, resume: bool
) -> Iterator[Execution]:
    """Alone, or as one of the processes that torchrun has started. Raises UsageError."""
    from streamer.models.training.pretrain import Execution
    from streamer.models.training.processes import started_by_torchrun

    own = checked_device(device)
    compiler = checked_compiler(own) if compiles else None
    chosen = precision or (Precision.BFLOAT16 if own.type == "cuda" else Precision.FLOAT32)
    with started_by_torchrun(os.environ, own) as processes:
        yield Execution(
            device=own,
            bfloat16=chosen is Precision.BFLOAT16,
            accumulate=accumulate,
            compiler=compiler,
            processes=processes,
            every=every,
            resume=resume,
        )


def require_one_process(command: str) -> None:
    """Raises UsageError under torchrun with several processes, which would write the same files."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"streamer model {command}: WORLD_SIZE is {os.environ['WORLD_SIZE']}, expected one process;"
            " only `streamer model pretrain` runs in several"
        )


def checked_compiler(device: torch.device) -> str:
    """The backend that `torch.compile` has for this device. Raises UsageError where it finds no compiler."""
    import torch

    backend = "inductor"
    try:
        torch.compile(lambda some: some + 1, backend=backend)(torch.ones(1, device=device))
    except RuntimeError as error:
        why = getattr(error, "inner_exception", error)
        raise UsageError(
            f"--compile: torch can't compile for {device.type} here ({str(why).splitlines()[0]});"
            " expected a C++ compiler on the path or named by CXX, and Triton for a GPU"
        ) from None
    return backend


def checked_device(name: str) -> torch.device:
    """Raises UsageError for a device that isn't here."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: expected cpu, cuda or cuda:N")
    if device.type == "cpu":
        return device
    number = int(os.environ.get("LOCAL_RANK", "0")) if device.index is None else device.index
    found = torch.cuda.device_count()
    # Torch keeps the number in 8 bits: of a large one it makes another, which may be negative.
    if not 0 <= number < found:
        expected = f"expected cuda:0 to cuda:{found - 1}" if found else "torch finds no GPU here"
        raise UsageError(f"--device {name}: {expected}")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
