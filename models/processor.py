"""The kind of processor: only on one kind are vectors the same to the last bit."""

from __future__ import annotations

import platform
from collections.abc import Collection
from functools import cache
from typing import Final

import numpy as np

_WIDEST_FIRST: Final = {"avx512": {"AVX512F", "X86_V4"}, "avx2": {"AVX2", "X86_V3"}}
"""Instruction sets that change the order in which numpy and onnxruntime add, by numpy's names for them."""


@cache
def processor_kind() -> str:
    """Architecture and widest instruction set, such as `x86_64 avx512` or `aarch64`."""
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    return kind_of(platform.machine(), {*extensions["baseline"], *extensions["found"]})


def kind_of(machine: str, extensions: Collection[str]) -> str:
    widest = next((name for name, needs in _WIDEST_FIRST.items() if needs.intersection(extensions)), "")
    return f"{machine} {widest}".rstrip()
