"""Torch made to repeat itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic


@contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Deterministic algorithms and a fixed number of threads, inside and not after."""
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    fill = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # Filling fresh memory helps to find reads of it; here it would only cost a sixth of the time.
    settings.fill_uninitialized_memory = False
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        settings.fill_uninitialized_memory = fill
        torch.set_num_threads(before[1])
