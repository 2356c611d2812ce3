"""What the changelog of the session table says: snapshots of open sessions, and markers.

A commit writes one group: snapshot chunks, then a marker with the source position they belong to. A snapshot
replaces everything of its visitor; of a visitor in `gone` nothing is left. Only whole groups count.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from streamer.core.session import OpenSession
from streamer.core.stored_state import encode_state, state_decoder
from streamer.core.watermark import PartitionClock
from streamer.pipeline.counters import ClickCounters
from streamer.pipeline.dead_letter_limit import DeadLetterTally

STATE_VERSION = 6
"""The newest. Raise it when an older worker must not go on from what this one writes: version 1 knew no
erasures, and would keep clicks that this one has to drop; version 2 can't read ids of clicks that are kept as
bytes; version 3 would take what is remembered of closed sessions for open ones; version 4 knows no extras;
version 5 knows no sessions that are held."""
_WITH_EXTRAS, _PLAIN = 5, 4
_READABLE = (1, 2, 3, 4, 5, 6)
"""Version 1 lacks the fields at the end of the marker, whose defaults are right for it; in 1 and 2 all ids
are text, which is read as well; 1 to 3 remember nothing of closed sessions; up to 4 no click has extras; up
to 5 no session is held."""


class SessionSnapshots(msgspec.Struct, array_like=True, tag="images"):
    """Open sessions of some visitors, and what is held or remembered of closed ones; all of one visitor's
    stand in the same chunk."""

    state_version: int
    commit_number: int
    sessions: list[OpenSession]


class StateTopics(msgspec.Struct, array_like=True, frozen=True):
    """The topics that a state belongs to; nothing in markers that were written before they named them."""

    clicks: str = ""
    clicks_id: str = ""
    """Distinguishes the topic from a later one of the same name; empty where the cluster gives none."""
    outputs: tuple[str, ...] = ()
    """Topics that sessions of this state are published to, or were under earlier settings."""
    arrival: str = ""
    """`clicks.arrival`, and how clicks are read (`sources.source_version`), when the state was written."""
    source: str = ""


class Marker(msgspec.Struct, array_like=True, tag="marker"):
    """The end of a group: everything before `position` in the source is in the state."""

    state_version: int
    epoch: int
    """Number of take-overs of this shard; it never goes down along the changelog."""
    commit_number: int
    chunks: int
    """Snapshot chunks of this group."""
    position: int
    partitions: int
    """Partitions of the source topic; with another number, visitors would live elsewhere."""
    rules_version: str
    clock: PartitionClock
    counters: ClickCounters
    gone: list[str]
    """Visitors of whom there is nothing any more."""
    erasures: int = 0
    """Offset in the erasures topic from which on erasures may still count."""
    dead_letters: DeadLetterTally = DeadLetterTally()
    drained: int = 0
    """Every session of clicks before this source offset was closed by a drain."""
    topics: StateTopics = StateTopics()
    """An older worker ignores it, and writes markers without."""
    processor: str = ""
    """Kind of processor that scored the commit; as with `topics`, older markers lack it."""


_decode: Callable[[bytes], SessionSnapshots | Marker] = state_decoder(SessionSnapshots | Marker).decode  # type: ignore[arg-type]
_peek = msgspec.msgpack.Decoder(list[msgspec.Raw])


def written_version(*, keeps_extras: bool, holds_closed: bool) -> int:
    """For what settings put into the state, so that an older worker can go on from whatever it can read."""
    return STATE_VERSION if holds_closed else _WITH_EXTRAS if keeps_extras else _PLAIN


class ChangelogError(Exception):
    """The changelog can't be trusted or understood; the text says why."""


def encode(entry: SessionSnapshots | Marker) -> bytes:
    """One changelog record."""
    return encode_state(entry)


def decode(value: bytes) -> SessionSnapshots | Marker:
    """Raises ChangelogError for anything that this version of the state didn't write."""
    entry: SessionSnapshots | Marker | None
    try:
        entry = _decode(value)
        version = entry.state_version
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError):
        entry, version = None, _written_version(value)
    if version not in _READABLE:
        raise ChangelogError(f"its state version is {version}, this worker reads version {_READABLE[-1]}")
    if entry is None:
        raise ChangelogError("a record in it is damaged")
    return entry


def _written_version(value: bytes) -> int:
    try:
        return msgspec.msgpack.decode(_peek.decode(value)[1], type=int)
    except (msgspec.MsgspecError, IndexError, UnicodeDecodeError):
        raise ChangelogError("a record in it was not written by the session table") from None
