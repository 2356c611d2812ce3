"""Memory of a worker: what was large leaves no holes, and names are no work for the garbage collector."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from streamer.core.session import open_session
from streamer.core.timers import Deadlines
from streamer.schemas.build import IS_COMPILED
from streamer.schemas.click import Click
from streamer.worker.changelog_groups import StateLog

KEPT = 12
LARGE = 9  # MiB
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


def lists_with(names: Iterable[str]) -> int:
    """Lists that the garbage collector goes through and that hold one of these very strings."""
    wanted = set(map(id, names))
    return sum(type(each) is list and any(id(name) in wanted for name in each) for each in gc.get_objects())


NAMES = [f"visitor {n}" for n in range(100)]


def test_the_garbage_collector_goes_through_no_names_of_the_changelog() -> None:
    log = StateLog()
    log.committed(1, 0, list(NAMES), [])
    assert lists_with(NAMES) == 1  # this module's


def test_the_garbage_collector_goes_through_no_names_of_windows_that_end() -> None:
    deadlines = Deadlines()
    for n, name in enumerate(NAMES):
        deadlines.note(name, n * 20)
    assert lists_with(NAMES) == 1
    assert deadlines.take(2000) == set(NAMES)


@pytest.mark.skipif(not IS_COMPILED, reason="objects of Python's own classes are always gone through")
def test_the_garbage_collector_goes_through_no_clicks_and_no_sessions() -> None:
    click = Click(5, "1", "view", price=1.5, dwell_ms=7, extras={"shop": "north"})
    window = open_session("ann", click, b"8 bytes.", 0, 5)
    window.user_id = "user"
    session = window.close("gap", 9, "rules")
    assert not any(map(gc.is_tracked, [click, window, session, *session.clicks]))
