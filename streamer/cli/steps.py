"""A progress bar per training step on a terminal, else a line per finished step and half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from streamer.cli.output import say

Show = Callable[[str, int, int, str], None]
"""(step, done, total, note)"""


_SAID_EVERY_S = 30.0


@contextmanager
def step_bars() -> Iterator[Show]:
    if not sys.stderr.isatty():
        yield Lines(time.monotonic).show
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars = {}

        def show(step: str, done: int, total: int, note: str) -> None:
            if step not in bars:
                bars[step] = progress.add_task(step, total=total, note=note)
            progress.update(bars[step], completed=done, total=total, note=note)

        yield show


class Lines:
    """Progress in lines of text; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started: dict[str, float] = {}
        self._said = clock()

    def show(self, step: str, done: int, total: int, note: str) -> None:
        now = self._clock()
        started = self._started.setdefault(step, now)
        if done == total:
            say(f"{step}: done ({note})")
        elif now - self._said >= _SAID_EVERY_S:
            left = timedelta(seconds=round((now - started) / done * (total - done))) if done else "?"
            say(f"{step}: {done:,} of {total:,}, about {left} left ({note})")
        else:
            return
        self._said = now
