"""Sessions in memory and links through both identity stages: whose each is, and customers' records over time.

What the evaluation measures is what a replay writes: the same stages read the same messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamer.identity.attribution import AttributionStage
from streamer.identity.changes import Attributed, Withdrawn
from streamer.identity.links import Link
from streamer.identity.rules import DAY_MS, IdentityRules
from streamer.models.bundle import Bundle
from streamer.models.scorer import Scorer
from streamer.pipeline.records import RecordWriter
from streamer.replay.users import IdentityEvent, UserReplay, in_order
from streamer.schemas import codec
from streamer.schemas.click import Session


@dataclass(frozen=True)
class Identities:
    bundle: Bundle
    rules_version: str
    rules: IdentityRules

    def scored(self, sessions: Sequence[Session]) -> list[tuple[int, bytes]]:
        """`closed_at` and VisitorIntent message of each session that the bundle can score, in that order."""
        results = Scorer(self.bundle).score(sessions)
        written = RecordWriter(self.bundle, self.rules_version).write_all(sessions, results)
        messages = [records.visitor for records in written]
        return sorted((codec.decode(message)[1]["closed_at"], message) for message in messages)

    def attributed(
        self,
        sessions: Iterable[tuple[int, bytes]],
        links: Iterable[Mapping[str, Any]],
        lookback_days: float,
    ) -> dict[str, tuple[str, str]]:
        """By session id, once everything was read: customer, and `login` or `link`."""
        stage = AttributionStage(replace(self.rules, lookback_ms=round(lookback_days * DAY_MS)))
        found: dict[str, tuple[str, str]] = {}
        for event in _events(sessions, links):
            if isinstance(event.what, Link):
                stage.link(event.what, event.at)
            elif isinstance(event.what, bytes):
                stage.links_read_until(event.at)
                stage.session(event.what)
            for user_id, change in stage.take().changes:
                if isinstance(change, Attributed):
                    session_id = codec.decode(change.session)[1]["session_id"]
                    found[session_id] = (user_id, change.attribution)
                elif isinstance(change, Withdrawn) and found.get(change.session_id, ("",))[0] == user_id:
                    del found[change.session_id]
        return found

    def records(
        self,
        sessions: Iterable[tuple[int, bytes]],
        links: Iterable[Mapping[str, Any]],
        half_life_days: float,
    ) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
        """Moment (ms UTC), customer, and their record from then on; None: nothing is left of them."""
        rules = replace(self.rules, half_life_ms=round(half_life_days * DAY_MS))
        for row in UserReplay(rules, 1).rows(_events(sessions, links)):
            record = None if row.message is None else codec.decode(row.message)[1]
            yield row.as_of, row.user_id, record


def _events(
    sessions: Iterable[tuple[int, bytes]], links: Iterable[Mapping[str, Any]]
) -> Iterator[IdentityEvent]:
    """All in one partition: what a visitor's sessions come to depends on no other visitor's."""
    return in_order(
        [IdentityEvent(closed_at, 0, message) for closed_at, message in sessions],
        [
            IdentityEvent(
                link["timestamp"],
                0,
                Link(link["visitor_id"], link["user_id"], link["action"] == "link", link["confidence"]),
            )
            for link in links
        ],
    )
