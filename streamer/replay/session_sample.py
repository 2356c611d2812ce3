"""A sample of sessions that memory holds: all of them, or all sessions of visitors chosen by a hash.

Which visitors depends on nothing but their ids and how many sessions there are. One pass, in any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Self

from streamer.schemas.click import Session

MOST_SESSIONS = 200_000
"""Some 3 kB each in memory."""
_SHARES = 10_000
"""Of visitors; the first ones that have at most as many sessions as asked for are held."""
_SLACK = 1.25
"""What is no longer in the sample is let go once so many times as many are held as asked for."""


class SessionSample:
    """Sessions of people; bots are neither held nor counted."""

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most = most
        self._counts = [0] * _SHARES
        self._below = _SHARES
        self._held: list[Session] = []
        self.of = 0
        """How many there were."""
        self.taken = 0
        """How many are in the sample."""

    @classmethod
    def from_all(cls, sessions: Iterable[Session], most: int = MOST_SESSIONS) -> Self:
        sample = cls(most)
        for session in sessions:
            sample.add(session)
        return sample

    def add(self, session: Session) -> None:
        if session.is_bot:
            return
        self.of += 1
        share = _share_of(session.visitor_id)
        if share >= self._below:
            return
        self._counts[share] += 1
        self.taken += 1
        self._held.append(session)
        while self.taken > self._most:
            self._below -= 1
            self.taken -= self._counts[self._below]
        if len(self._held) > _SLACK * self._most:
            self._held = self.sessions()

    def sessions(self) -> list[Session]:
        """In the order in which they came."""
        return [session for session in self._held if _share_of(session.visitor_id) < self._below]


def _share_of(visitor_id: str) -> int:
    digest = hashlib.blake2b(visitor_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"sample")
    return int.from_bytes(digest.digest(), "big") % _SHARES
