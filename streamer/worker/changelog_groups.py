"""How snapshots stand in the changelog: in chunks, in groups that still hold some that count, until a trim.

A log-structured store: every commit appends; the oldest group is emptied by rewriting the snapshots in it
that are still the latest of their visitor, a few with each commit. So the changelog, and with it recovery,
is bounded by the open sessions, and nothing ever stops to write everything at once.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from streamer.core.session import OpenSession
from streamer.native.collector import untracked

REWRITE_RATIO = 2.5
"""How many snapshots the changelog may hold for each visitor with open sessions before old ones are moved.
With fewer, more is written all the time; with more, more is read in a take-over (docs/capacity.md)."""
REWRITE_MIN = 1000
"""Below this many snapshots nothing is rewritten."""
REWRITE_STEP = 500
"""Snapshots that one commit may look at to rewrite what counts of them, and two for each that it changed: of
the oldest about half still count."""

CHUNK_BYTES = 512 * 1024


class _Group(NamedTuple):
    commit_number: int
    offset: int
    visitors: list[str]


class StateLog:
    """The groups of one shard's changelog, oldest first, and the latest snapshot of every visitor."""

    def __init__(self) -> None:
        self._groups: deque[_Group] = deque()
        self._latest: dict[str, int] = {}
        self._snapshots = 0

    @property
    def trim_offset(self) -> int | None:
        """The changelog is not needed before this offset; None before the first group."""
        return self._groups[0].offset if self._groups else None

    def committed(self, commit_number: int, offset: int, visitors: list[str], gone: list[str]) -> None:
        """Note a committed group: its first offset, whose snapshots it holds, and who has none any more."""
        for visitor in gone:
            self._latest.pop(visitor, None)
        for visitor in visitors:
            self._latest[visitor] = commit_number
        self._groups.append(_Group(commit_number, offset, untracked(visitors)))
        self._snapshots += len(visitors)
        self._drop_empty()

    def stale(self, changed: int) -> list[str]:
        """Visitors whose snapshots the next commit rewrites, beside the `changed` that it writes anyway."""
        visitors: list[str] = []
        excess = self._snapshots - max(REWRITE_MIN, int(REWRITE_RATIO * len(self._latest)))
        room = min(excess, REWRITE_STEP + 2 * changed)
        for group in self._groups:
            if room <= 0:
                break
            last = group.visitors[-room:]  # from its end, where `_drop_empty` forgets them
            visitors += [v for v in last if self._latest.get(v) == group.commit_number]
            room -= len(last)
        return visitors

    def next_group(
        self, stale: list[str], changed: dict[str, OpenSession | None], closed: list[str]
    ) -> tuple[dict[str, OpenSession | None], list[str]]:
        """What a commit writes: visitors with a snapshot, and those whose snapshot doesn't count any more.

        `stale` as `stale` gave it, the others as `Sessionizer.take_changed` does.
        """
        gone = {visitor: None for visitor in closed if visitor in self._latest}
        return {visitor: None for visitor in stale if visitor not in gone} | changed, list(gone)

    def _drop_empty(self) -> None:
        """Forget the oldest groups in which no snapshot counts; the newest stays, for its marker does."""
        while len(self._groups) > 1:
            number, _, visitors = self._groups[0]
            while visitors and self._latest.get(visitors[-1]) != number:
                visitors.pop()
                self._snapshots -= 1
            if visitors:
                return
            self._groups.popleft()


def in_chunks(windows: list[OpenSession]) -> list[list[OpenSession]]:
    """Sessions by snapshot chunk, of about CHUNK_BYTES; a visitor's, which come together, stay in one."""
    chunks: list[list[OpenSession]] = []
    start = size = 0
    for end, window in enumerate(windows, 1):
        size += window.size()
        if size >= CHUNK_BYTES:
            if end < len(windows) and windows[end].visitor_id == window.visitor_id:
                continue
            chunks.append(windows[start:end])
            start, size = end, 0
    if start < len(windows):
        chunks.append(windows[start:])
    return chunks


def rows_of(windows: list[OpenSession]) -> list[tuple[Any, ...]]:
    """What is stored of sessions as they are now, for a chunk that is encoded later."""
    return [window.to_row() for window in windows]
