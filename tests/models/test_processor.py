"""The kind of processor is its architecture and the widest instruction set."""

from __future__ import annotations

import platform

import pytest

from streamer.models.processor import kind_of, processor_kind


@pytest.mark.parametrize(
    ("machine", "extensions", "kind"),
    [
        ("x86_64", ["SSE", "AVX2", "AVX512F", "AVX512_SKX"], "x86_64 avx512"),
        ("x86_64", ["X86_V2", "X86_V3", "X86_V4"], "x86_64 avx512"),
        ("x86_64", ["SSE", "AVX2", "FMA3"], "x86_64 avx2"),
        ("x86_64", ["X86_V2", "X86_V3"], "x86_64 avx2"),
        ("x86_64", ["X86_V2"], "x86_64"),
        ("aarch64", ["NEON", "ASIMD", "ASIMDHP"], "aarch64"),
    ],
)
def test_the_widest_instruction_set_counts(machine: str, extensions: list[str], kind: str) -> None:
    assert kind_of(machine, extensions) == kind


def test_this_machine_has_a_kind() -> None:
    assert processor_kind().startswith(platform.machine())
