"""The latest of each visitor, or of each customer, in memory: records of a topic in, look-ups out. Pure.

- A visitor's latest is the one with the greatest (closed_at, started_at, revision), whatever order records
  come in. A customer's is the last in the log: a session that is withdrawn takes their record back in time.
- A record without a value erases, at once.
- What closed longer ago than the time to live is no longer returned, and is dropped as time goes by.
- A vector is returned only to callers that name its space; to others there is none.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from typing import ClassVar, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from streamer.schemas import codec

Float32 = npt.NDArray[np.float32]

_AGE_GROUPS = 1024
"""In a time to live: so many, that one is small enough to be looked through every second."""


class RankedIntent(NamedTuple):
    intent_id: str
    label: str
    parent: str | None
    probability: float


class Reason(NamedTuple):
    """A click that speaks for the top intent; docs/consumers.md says what its fields are."""

    click: int
    event_id: str
    event_type: str
    page_type: str | None
    contribution: float


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
    prototypes_version: str | None = None
    """None without memberships: the worker doesn't publish them, or this is a customer's record."""
    memberships: Float32 | None = None
    """[K], in the model's prototypes; `memberships_for` is the safe way to them."""
    reasons: tuple[Reason, ...] | None = None
    """The clicks that speak most for the top intent, the strongest first; none if the model abstained. None:
    the worker doesn't publish them, or this is a customer's record."""

    def embedding_for(self, space: str) -> Float32 | None:
        """[D] if it is of this space; None if not: whoever reads it needs another model for it, or none."""
        return self.vector if space == self.embedding_space else None

    def memberships_for(self, prototypes: str) -> Float32 | None:
        """[K] if they are in prototypes of this version; None if not, or if there are none."""
        return self.memberships if prototypes == self.prototypes_version else None

    def probability_of(self, intent_id: str) -> float:
        """0 for an intent that isn't among the best five."""
        return next((i.probability for i in self.intents if i.intent_id == intent_id), 0.0)


class PastSession(NamedTuple):
    session_id: str
    closed_at: int
    top_intent: str | None
    """None: the model abstained."""
    probability: float | None
    attribution: str
    confidence: float


class ProfileIntent(NamedTuple):
    intent_id: str
    label: str
    parent: str | None
    probability: float
    """Weighted mean over the sessions of the latest one's taxonomy version."""


class UserState(NamedTuple):
    """A customer's record."""

    user_id: str
    latest: VisitorState
    """Their latest session, on whichever browser."""
    attribution: str
    """Why that session is theirs: `login` or `link`."""
    confidence: float
    history: tuple[PastSession, ...]
    """The newest sessions, newest first; the latest is the first."""
    profile: tuple[ProfileIntent, ...]
    """Most likely first; empty if no session has a confidence above 0."""
    profile_vector: Float32
    """[D], or [0] if no session has a confidence above 0; `profile_for` is the safe way to it."""
    sessions: int
    """How many stand behind the profile."""
    visitors: int

    @property
    def closed_at(self) -> int:
        """Of the latest session, ms UTC."""
        return self.latest.closed_at

    @property
    def embedding_space(self) -> str:
        return self.latest.embedding_space

    def profile_for(self, space: str) -> Float32 | None:
        """[D] if it is of this space; None if not, or if there is no profile."""
        return self.profile_vector if space == self.embedding_space and self.profile_vector.size else None


class State(Protocol):
    """What a table has to know of what it holds."""

    @property
    def closed_at(self) -> int: ...

    @property
    def embedding_space(self) -> str: ...


S = TypeVar("S", bound=State)


class LatestTable(Generic[S]):
    """One writer; any number of readers beside it, also in other threads."""

    schema: ClassVar[codec.SchemaName]

    def __init__(self, ttl_ms: int, on_new_space: Callable[[str], None] = lambda _: None) -> None:
        """`on_new_space` is called with every embedding space when its first vector comes."""
        self.spaces: dict[str, int] = {}
        """Embedding space -> records that came of it."""
        self.refused = 0
        """Records of another schema than the table's."""
        self._ttl_ms = ttl_ms
        self._on_new_space = on_new_space
        self._states: dict[str, S] = {}
        self._age_group_ms = max(ttl_ms // _AGE_GROUPS, 1)
        self._by_age: defaultdict[int, set[str]] = defaultdict(set)
        """Keys by `closed_at` in units of `_age_group_ms`: partitions aren't read in order of time."""

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: str, now_ms: int) -> S | None:
        """The latest of this key; None if there is none, or none that is recent enough."""
        state = self._states.get(key)
        if state is None or now_ms - state.closed_at > self._ttl_ms:
            return None
        return state

    def apply(self, key: bytes | None, value: bytes | None) -> None:
        """Take in a record of the topic."""
        if value is None:
            self._erase((key or b"").decode(errors="replace"))
            return
        try:
            found, state = self._read(value)
        except codec.CodecError:
            self.refused += 1
            return
        self._put(found, state)

    def expire(self, now_ms: int) -> int:
        """Forget what is older than the time to live; returns how many keys were.

        Cheap: looks at those only that closed about that long ago, or longer.
        """
        last = (now_ms - self._ttl_ms) // self._age_group_ms
        old = [
            key
            for group in [group for group in self._by_age if group <= last]
            for key in self._by_age[group]
            if self.get(key, now_ms) is None
        ]
        for key in old:
            self._forget(key)
        return len(old)

    def _read(self, message: bytes) -> tuple[str, S]:
        """Key and state. Raises codec.CodecError if it is no message of the table's schema."""
        raise NotImplementedError

    def _erase(self, key: str) -> None:
        """A tombstone came."""
        self._forget(key)

    def _is_older(self, state: S, known: S) -> bool:  # noqa: ARG002, the last in the log is the latest
        return False

    def _put(self, key: str, state: S) -> None:
        space = state.embedding_space
        if space not in self.spaces:
            self.spaces[space] = 0
            self._on_new_space(space)
        self.spaces[space] += 1
        known = self._states.get(key)
        if known is not None and self._is_older(state, known):
            return
        if known is not None:
            self._leave_age_group(key, known)
        self._states[key] = state
        self._by_age[state.closed_at // self._age_group_ms].add(key)

    def _forget(self, key: str) -> None:
        state = self._states.pop(key, None)
        if state is not None:
            self._leave_age_group(key, state)

    def _leave_age_group(self, key: str, state: S) -> None:
        group = state.closed_at // self._age_group_ms
        self._by_age[group].discard(key)
        if not self._by_age[group]:
            del self._by_age[group]


class VisitorTable(LatestTable[VisitorState]):
    schema = "visitor_intent"

    def _read(self, message: bytes) -> tuple[str, VisitorState]:
        record = record_of(self.schema, message)
        return record["visitor_id"], _state_of(record)

    def _is_older(self, state: VisitorState, known: VisitorState) -> bool:
        return age_order(state) < age_order(known)


class UserTable(LatestTable[UserState]):
    schema = "user_intent"

    def _read(self, message: bytes) -> tuple[str, UserState]:
        record = record_of(self.schema, message)
        return record["user_id"], _user_state_of(record)


def record_of(schema: codec.SchemaName, message: bytes) -> codec.Record:
    """The record. Raises codec.CodecError if it is no message of this schema."""
    name, record = codec.decode(message)
    if name != schema:
        raise codec.CodecError("another_schema", f"record is a {name}, expected a {schema}")
    return record


class Session(Protocol):
    """What says which session of a visitor is the latest."""

    @property
    def closed_at(self) -> int: ...

    @property
    def started_at(self) -> int: ...

    @property
    def revision(self) -> int: ...


def age_order(session: Session) -> tuple[int, int, int]:
    """The greatest of a visitor's is their latest."""
    return session.closed_at, session.started_at, session.revision


def _state_of(record: codec.Record) -> VisitorState:
    # Names of intents are few and of visitors many: one string each for the former.
    intern, shares, reasons = sys.intern, record.get("memberships"), record.get("reasons")
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
        prototypes_version=intern(version) if (version := record.get("prototypes_version")) else None,
        memberships=None if shares is None else np.array(shares, dtype=np.float32),
        reasons=None if reasons is None else tuple(Reason(**each) for each in reasons),
    )


def _user_state_of(record: codec.Record) -> UserState:
    return UserState(
        user_id=record["user_id"],
        latest=_state_of(record),
        attribution=sys.intern(record["attribution"]),
        confidence=record["confidence"],
        history=tuple(PastSession(**session) for session in record["history"]),
        profile=tuple(ProfileIntent(**intent) for intent in record["profile"]),
        profile_vector=np.array(record["profile_embedding"], dtype=np.float32),
        sessions=record["sessions"],
        visitors=record["visitors"],
    )
