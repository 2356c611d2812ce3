"""What the members of a replay's group tell each other: values of the job's topic."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from streamer.errors import StreamerError
from streamer.pipeline.counters import ClickCounters
from streamer.replay.digests import OutputDigests
from streamer.replay.engine import LaneResult
from streamer.replay.job_topic import Claim, JobTopic
from streamer.replay.journal import STATE_VERSION, LaneState, Sealed
from streamer.replay.plan import Plan
from streamer.replay.tally import Tally

PLAN, ENDED, STATE = "plan", "ended", "state"
Value = TypeVar("Value", bound=msgspec.Struct)


class JobError(StreamerError):
    """The members of the group can't work together."""


class Begun(msgspec.Struct):
    """The plan that all members follow."""

    plan: Plan
    token: str
    """Name of a file in the folder of rows: whoever sees it sees the rows of the others."""


class Result(msgspec.Struct):
    """What one partition came to."""

    tally: Tally
    counters: ClickCounters
    digests: list[dict[str, Any]]
    sealed: Sealed

    def as_lane(self) -> LaneResult:
        digests = [OutputDigests(each) for each in self.digests]
        return LaneResult(self.tally, self.counters, digests, self.sealed)


class Head(msgspec.Struct):
    """How far a partition is."""

    read: int
    """Records, of how many at most the plan says."""
    result: Result | None = None
    """Once it is done."""


class Ended(msgspec.Struct):
    """All that is left of a job."""

    begun: Begun
    results: dict[int, Result]
    rows: int | None


class Owned(msgspec.Struct):
    """A partition's state, and how often it was claimed."""

    epoch: int
    state: LaneState | None


class LaneKeeper:
    """Keeps the states of one partition for as long as its claim holds."""

    def __init__(self, job: JobTopic, claim: Claim, owned: Owned) -> None:
        self.epoch = owned.epoch + 1
        self._job = job
        self._claim = claim
        self._before = owned.state

    async def take_over(self) -> None:
        """Commit the claim: rows of no other epoch's owner can come to have the names of this one's."""
        await self._claim.put({(self._claim.number, STATE): _encode(Owned(self.epoch, self._before))})

    async def save(self, number: int, state: LaneState) -> None:
        snapshot = state.snapshot
        head = Head(snapshot.counters.received)
        if state.done:
            head.result = Result(snapshot.tally, snapshot.counters, state.digests, state.sealed)
            snapshot.sessions = []  # what is still open is counted, and nobody goes on with it
        values = {
            (number, STATE): _encode(Owned(self.epoch, state)),
            (self._job.whole, head_name(number)): _encode(head),
        }
        await self._claim.put(values)


def read_value(value: bytes, of_type: type[Value], job: JobTopic) -> Value:
    """Raises JobError for what another version of this program has written."""
    try:
        found = msgspec.msgpack.decode(value, type=of_type)
    except msgspec.MsgspecError:
        found = None
    state = found.state if isinstance(found, Owned) else None
    if found is None or (state is not None and state.version != STATE_VERSION):
        raise JobError(f"topic {job.name} holds a replay of another version: take another --group")
    return found


def head_name(number: int) -> str:
    return f"head-{number}"


def _encode(value: msgspec.Struct) -> bytes:
    return msgspec.msgpack.encode(value)
