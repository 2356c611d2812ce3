"""Where a training run's sessions come from: a list, or a file with more of them than memory holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from streamer.schemas.click import Session


class HeldSessions(NamedTuple):
    """What memory holds: all sessions, or all sessions of visitors chosen by a hash."""

    sessions: Iterable[Session]
    are_all: bool


class SessionSource(Protocol):
    def held(self) -> HeldSessions:
        """Reads the source once."""

    def every(self) -> Iterator[Session]:
        """All sessions, in any order, read anew."""


@dataclass(frozen=True)
class SessionList:
    sessions: Sequence[Session]

    def held(self) -> HeldSessions:
        return HeldSessions(self.sessions, are_all=True)

    def every(self) -> Iterator[Session]:
        return iter(self.sessions)
