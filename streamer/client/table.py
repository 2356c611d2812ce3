"""The latest of each visitor in memory: records of the visitors topic in, look-ups out. Pure.

- The latest is the one with the greatest (closed_at, started_at, revision), whatever order records come in.
- A record without a value erases the visitor, at once.
- What closed longer ago than the time to live is no longer returned, and is dropped as time goes by.
- A vector is returned only to callers that name its space; to others there is none.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas import codec

Float32 = npt.NDArray[np.float32]

_AGE_GROUPS = 1024
"""In a time to live: so many, that one is small enough to be looked through every second."""


class RankedIntent(NamedTuple):
    intent_id: str
    label: str
    parent: str | None
    probability: float


class VisitorState(NamedTuple):
    """A visitor's latest session. Times in ms UTC; `closed_at` is when it was known to be over."""

    visitor_id: str
    session_id: str
    user_id: str | None
    started_at: int
    ended_at: int
    closed_at: int
    revision: int
    is_final: bool
    is_bot: bool
    model_version: str
    taxonomy_version: str
    intents: tuple[RankedIntent, ...]
    """The best five, most likely first; also when the model abstained."""
    top_intent: str | None
    """None: the model abstained."""
    abstain_reason: str | None
    embedding_space: str
    vector: Float32
    """[D], comparable only within `embedding_space`; `embedding_for` is the safe way to it."""

    def embedding_for(self, space: str) -> Float32 | None:
        """[D] if it is of this space; None if not: whoever reads it needs another model for it, or none."""
        return self.vector if space == self.embedding_space else None

    def probability_of(self, intent_id: str) -> float:
        """0 for an intent that isn't among the best five."""
        return next((i.probability for i in self.intents if i.intent_id == intent_id), 0.0)


class VisitorTable:
    """One writer; any number of readers beside it, also in other threads."""

    def __init__(self, ttl_ms: int, on_new_space: Callable[[str], None] = lambda _: None) -> None:
        """`on_new_space` is called with every embedding space when its first vector comes."""
        self.spaces: dict[str, int] = {}
        """Embedding space -> records that came of it."""
        self.refused = 0
        """Records that are no visitor intents."""
        self._ttl_ms = ttl_ms
        self._on_new_space = on_new_space
        self._states: dict[str, VisitorState] = {}
        self._age_group_ms = max(ttl_ms // _AGE_GROUPS, 1)
        self._by_age: defaultdict[int, set[str]] = defaultdict(set)
        """Visitors by `closed_at` in units of `_age_group_ms`: partitions aren't read in order of time."""

    def __len__(self) -> int:
        return len(self._states)

    def get(self, visitor_id: str, now_ms: int) -> VisitorState | None:
        """The visitor's latest session; None if there is none, or none that is recent enough."""
        state = self._states.get(visitor_id)
        if state is None or now_ms - state.closed_at > self._ttl_ms:
            return None
        return state

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take in a record of the topic."""
        if value is None:
            self._forget((key or b"").decode(errors="replace"))
            return
        try:
            name, record = codec.decode(value)
        except codec.CodecError:
            name, record = "click", {}
        if name != "visitor_intent":
            self.refused += 1
            return
        self._put(_state_of(record))

    def expire(self, now_ms: int) -> int:
        """Forget what is older than the time to live; returns how many visitors were.

        Cheap: looks at those only that closed about that long ago, or longer.
        """
        last = (now_ms - self._ttl_ms) // self._age_group_ms
        old = [
            visitor_id
            for group in [group for group in self._by_age if group <= last]
            for visitor_id in self._by_age[group]
            if self.get(visitor_id, now_ms) is None
        ]
        for visitor_id in old:
            self._forget(visitor_id)
        return len(old)

    def _put(self, state: VisitorState) -> None:
        space = state.embedding_space
        if space not in self.spaces:
            self.spaces[space] = 0
            self._on_new_space(space)
        self.spaces[space] += 1
        known = self._states.get(state.visitor_id)
        if known is not None and _age_order(state) < _age_order(known):
            return
        if known is not None:
            self._leave_age_group(known)
        self._states[state.visitor_id] = state
        self._by_age[state.closed_at // self._age_group_ms].add(state.visitor_id)

    def _forget(self, visitor_id: str) -> None:
        state = self._states.pop(visitor_id, None)
        if state is not None:
            self._leave_age_group(state)

    def _leave_age_group(self, state: VisitorState) -> None:
        group = state.closed_at // self._age_group_ms
        self._by_age[group].discard(state.visitor_id)
        if not self._by_age[group]:
            del self._by_age[group]


def _age_order(state: VisitorState) -> tuple[int, int, int]:
    return state.closed_at, state.started_at, state.revision


def _state_of(record: codec.Record) -> VisitorState:
    # Names of intents are few and of visitors many: one string each for the former.
    intern = sys.intern
    return VisitorState(
        visitor_id=record["visitor_id"],
        session_id=record["session_id"],
        user_id=record["user_id"],
        started_at=record["started_at"],
        ended_at=record["ended_at"],
        closed_at=record["closed_at"],
        revision=record["revision"],
        is_final=record["is_final"],
        is_bot=record["is_bot"],
        model_version=intern(record["model_version"]),
        taxonomy_version=intern(record["taxonomy_version"]),
        intents=tuple(
            RankedIntent(
                intern(intent["intent_id"]),
                intern(intent["label"]),
                intern(intent["parent"]) if intent["parent"] is not None else None,
                intent["probability"],
            )
            for intent in record["intents"]
        ),
        top_intent=intern(record["top_intent"]) if record["top_intent"] is not None else None,
        abstain_reason=record["abstain_reason"],
        embedding_space=intern(record["embedding_space"]),
        vector=np.array(record["embedding"], dtype=np.float32),
    )
