"""Customers of a verification: what the compared sessions, with the ties that live has read, make of them.

Sessions wait on disk until all partitions are compared. How far live has read links, erasures and its own
topics is taken from the markers of the identity stages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from streamer.identity.links import Link
from streamer.kafka.partitions import by_murmur2
from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup
from streamer.replay.identity_inputs import ties_of_topics
from streamer.replay.journal import DurableOutput
from streamer.replay.scoring import BundleOutput, ScoredSession
from streamer.replay.served import ServedComparison
from streamer.replay.session_spool import SpoolingSink, spooled_sessions
from streamer.replay.sinks import NoSink
from streamer.replay.time_range import TimeRange
from streamer.replay.topic_source import ends_of, first_arrival, records_of
from streamer.replay.user_comparison import Unknown, UserComparison, compare_users
from streamer.replay.users import IdentityEvent, UserReplay, in_order
from streamer.rules_from_settings import identity_rules
from streamer.schemas import codec
from streamer.schemas.click import Session
from streamer.schemas.codec import Record
from streamer.settings import Settings
from streamer.worker.stages.stage_marker import MARKER_KEY, decode_marker

AT_WORK = "live was at work, or has not attributed everything yet"
AFTER_RANGE = "the topic holds only the latest record, which may be of after --to"
INCOMPARABLE = "sessions of a partition can't be compared"

Positions = dict[int, dict[str, int]]
"""Next offset by partition of the stage and topic."""


class ReplayedUsers:
    """Hand it every session that is compared, and what is left out; then `compare`."""

    def __init__(
        self, settings: Settings, asked: TimeRange, erased: Mapping[str, int], folder: Path, partitions: int
    ) -> None:
        """`erased`: visitor -> moment up to which live has dropped their clicks, ms UTC."""
        self._settings = settings
        self._asked = asked
        self._erased = erased
        self._folder = folder
        self._numbers = range(partitions)
        self._spool = SpoolingSink(NoSink(), folder, dict.fromkeys(self._numbers, DurableOutput()))
        self._unknown_until = asked.from_ms
        self._named: defaultdict[str, set[str]] = defaultdict(set)
        """Erased visitor -> users of their sessions."""
        self._cut: set[str] = set()
        """Erased visitors of a session of which live has dropped the first clicks."""
        self._read: list[Positions] = []
        self.because: str | None = None if asked.to_ms is None else AFTER_RANGE

    async def begin(self) -> None:
        """Look up how far live is."""
        self._read = await self._positions()

    def leave_out(self, until_ms: int | None) -> None:
        """Something up to this moment (ms UTC) isn't compared; None: nothing."""
        if until_ms is not None:
            self._unknown_until = max(until_ms, self._unknown_until or 0)

    async def add(self, number: int, session: Session, output: BundleOutput) -> None:
        """A final session of a partition, as the bundle that live has used scored it."""
        erased_until = self._erased.get(session.visitor_id)
        if erased_until is not None:
            if session.user_id is not None:
                self._named[session.visitor_id].add(session.user_id)
            if session.started_at <= erased_until < session.closed_at:
                self._cut.add(session.visitor_id)
                return
        await self._spool.write(number, [ScoredSession(session, (output,), ())])

    async def compare(self, open_ids: Sequence[str], served: ServedComparison | None) -> UserComparison:
        """With the users topic as it is now. `open_ids`: sessions that are open. `served` is told of every
        record. Raises StreamerError."""
        settings, rules = self._settings, identity_rules(self._settings)
        attribution = self._read[0]
        sides = (settings.topics.links, settings.topics.erasures)
        ends = {topic: {n: at.get(topic, 0) for n, at in attribution.items()} for topic in sides}
        ties = await ties_of_topics(settings, rules, ends)
        self.leave_out(await first_arrival(settings, settings.topics.links))
        replay = UserReplay(rules, len(self._numbers))
        mine: dict[str, bytes | None] = {}
        sealed = [await self._spool.seal(number) for number in self._numbers]
        sessions = [
            spooled_sessions(self._folder, number, output.spooled, 0)
            for number, output in zip(self._numbers, sealed, strict=True)
        ]
        for row in replay.rows(in_order(ties, *sessions)):
            mine[row.user_id] = row.message
            if served is not None and row.message is not None:
                served.replayed("users", row.user_id, row.message)
        live = await self._published()
        if self.because is None and await self._is_at_work():
            self.because = AT_WORK
        unknown = Unknown(self._unknown_until, frozenset(open_ids), self._erased_users(ties), self.because)
        compared = compare_users(live, _decoded(mine), unknown, rules)
        compared.sessions = msgspec.structs.asdict(replay.counts)
        return compared

    async def _published(self) -> dict[str, Record]:
        topic = self._settings.topics.users
        lookup = SchemaLookup(self._settings.registry, COMMAND_PATIENCE_S)
        latest: dict[str, bytes | None] = {}
        ends = await ends_of(self._settings, topic)
        async for record in records_of(self._settings, topic, ends):
            if record.value is not None or by_murmur2(record.key, len(ends)) == record.partition:
                latest[record.key.decode()] = (await lookup.own_record(record)).value
        return _decoded(latest)

    async def _positions(self) -> list[Positions]:
        """Of attribution and of users; partitions without a marker aren't in them."""
        settings = self._settings
        return [
            await _stage_positions(settings, changelog)
            for changelog in (settings.attribution_changelog, settings.users_changelog)
        ]

    async def _is_at_work(self) -> bool:
        settings = self._settings
        now = await self._positions()
        if now != self._read:
            return True
        for of_stage, source in zip(now, (settings.topics.visitors, settings.user_changes), strict=True):
            for number, end in (await ends_of(settings, source)).items():
                if of_stage.get(number, {}).get(source, 0) < end:
                    return True
        return False

    def _erased_users(self, ties: Sequence[IdentityEvent]) -> set[str]:
        for tie in ties:
            if isinstance(tie.what, Link) and tie.what.visitor_id in self._cut:
                self._named[tie.what.visitor_id].add(tie.what.user_id)
        return {user_id for visitor_id in self._cut for user_id in self._named[visitor_id]}


def _decoded(messages: Mapping[str, bytes | None]) -> dict[str, Record]:
    return {user_id: codec.decode(message)[1] for user_id, message in messages.items() if message is not None}


async def _stage_positions(settings: Settings, changelog: str) -> Positions:
    found: Positions = {}
    async for record in records_of(settings, changelog, await ends_of(settings, changelog)):
        if record.key == MARKER_KEY:
            found[record.partition] = decode_marker(record.value).positions
    return found
