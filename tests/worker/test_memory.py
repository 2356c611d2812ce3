"""Memory of a worker: what was large for a moment leaves no holes behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KEPT = 30
LARGE = 4  # MiB
CHILD = f"""
import sys
from benchmarks.heartbeat import memory_mb
from streamer.worker import memory
if sys.argv[1] == "settle_memory":
    memory.settle_memory()
before, _ = memory_mb()
for _ in range(3):  # after the first of these glibc would take the next ones from the heap
    bytearray(b"x") * 2**20 * {LARGE}
large, kept = [], []
for _ in range({KEPT}):
    large.append(bytearray(b"x") * 2**20 * {LARGE})
    kept.append(bytearray(b"x") * 700)
large.clear()
if sys.argv[1] == "give_back_memory":
    memory.give_back_memory()
print(memory_mb()[0] - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("by", ["settle_memory", "give_back_memory"])
def test_megabytes_that_are_let_go_are_given_back_though_sessions_came_between_them(by: str) -> None:
    found = subprocess.run([sys.executable, "-c", CHILD, by], capture_output=True, text=True, check=True)
    assert float(found.stdout) < KEPT * LARGE / 4
