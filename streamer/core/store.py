"""The open sessions of one partition by visitor, each visitor's in order of their start.

A visitor's windows lie more than a gap apart, so the first to start is the first to end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from streamer.core.session import OpenSession


class OpenWindows:
    """Hardly any visitor has more than one window; those who do are kept apart, which saves memory."""

    def __init__(self, sessions: Iterable[OpenSession] = ()) -> None:
        self.single: dict[str, OpenSession] = {}
        """Of visitors with exactly one."""
        self.several: dict[str, list[OpenSession]] = {}
        """Of visitors with more, by start."""
        for session in sessions:
            self.insert(session)

    def of(self, visitor_id: str) -> list[OpenSession]:
        """A new list of a visitor's windows by start; empty if there is none."""
        only = self.single.get(visitor_id)
        return list(self.several.get(visitor_id, ())) if only is None else [only]

    def insert(self, window: OpenSession) -> None:
        """Add a window to those of its visitor."""
        visitor_id = window.visitor_id
        if visitor_id in self.single or visitor_id in self.several:
            self._put(visitor_id, [*self.of(visitor_id), window])
        else:
            self.single[visitor_id] = window

    def replace(self, window: OpenSession) -> None:
        """Make it the only one of its visitor, whose name stays the string that is there."""
        visitor_id = window.visitor_id
        known = self.single.get(visitor_id)
        if known is not None:
            window.visitor_id = known.visitor_id
        elif visitor_id in self.several:
            del self.several[visitor_id]
        self.single[visitor_id] = window

    def forget(self, visitor_id: str) -> None:
        """Drop all windows of a visitor, if there are any."""
        if self.single.pop(visitor_id, None) is None:
            self.several.pop(visitor_id, None)

    def remove(self, window: OpenSession) -> None:
        """Take out this very window."""
        visitor_id = window.visitor_id
        if self.single.get(visitor_id) is window:
            del self.single[visitor_id]
        else:
            self._put(visitor_id, [other for other in self.several[visitor_id] if other is not window])

    def visitors(self) -> Iterator[str]:
        """Every visitor with a window."""
        yield from self.single
        yield from self.several

    def __iter__(self) -> Iterator[OpenSession]:
        yield from self.single.values()
        for windows in self.several.values():
            yield from windows

    def __len__(self) -> int:
        return len(self.single) + sum(map(len, self.several.values()))

    def _put(self, visitor_id: str, windows: list[OpenSession]) -> None:
        """Make these, at least one, the visitor's windows."""
        if len(windows) == 1:
            del self.several[visitor_id]
            self.single[visitor_id] = windows[0]
        else:
            self.single.pop(visitor_id, None)
            windows.sort(key=_start)
            self.several[visitor_id] = windows


def _start(window: OpenSession) -> int:
    return window.started_at
