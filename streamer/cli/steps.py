"""A progress bar per training step on a terminal, else a line per finished step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from streamer.cli.output import say

Show = Callable[[str, int, int, str], None]
"""(step, done, total, note)"""


@contextmanager
def step_bars() -> Iterator[Show]:
    if not sys.stderr.isatty():
        yield _say_when_done
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars = {}

        def show(step: str, done: int, total: int, note: str) -> None:
            if step not in bars:
                bars[step] = progress.add_task(step, total=total, note=note)
            progress.update(bars[step], completed=done, total=total, note=note)

        yield show


def _say_when_done(step: str, done: int, total: int, note: str) -> None:
    if done == total:
        say(f"{step}: done ({note})")
