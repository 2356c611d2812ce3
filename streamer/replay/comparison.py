"""Sessions of a replay held against those that live has published, one partition at a time. Pure.

What can't be compared is counted by its reason, never passed over: sessions that may have begun before the
first click that was read, sessions that a bundle made which isn't at hand, sessions that live hasn't
published yet. A session that live published under other rules makes its whole partition incomparable.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from streamer.replay.digests import (
    SCHEMA_OF,
    Kind,
    OutputDigests,
    RecordHashes,
    differ_by_rounding,
    setting_between,
)
from streamer.replay.time_range import TimeRange, UndeterminedSessions, UndeterminedSpans
from streamer.schemas.click import Session

NAMED = 5
"""How many session_ids of each kind of difference are named."""
State = Literal["equal", "different", "undetermined"]
Difference = Literal["missing", "extra", "different", "twice"]
"""Live lacks it; live alone has it; other contents or closed at another time; published more often."""
ERASED = "of visitors who were erased"
UNDETERMINED = "may have begun before what was read"


@dataclass(slots=True)
class PublishedSession:
    """A session as live has published it."""

    session_id: str
    visitor_id: str
    started_at: int
    ended_at: int
    closed_at: int
    close_reason: str
    model_version: str
    rules_version: str
    hashes: dict[Kind, list[RecordHashes]] = field(default_factory=lambda: {kind: [] for kind in SCHEMA_OF})
    """Usually one of each. A click that is sent again after an end event has closed its session makes another
    one of the same id."""


SessionKey = tuple[str, int]
"""session_id and closed_at."""


@dataclass
class ComparisonResult:
    """What the comparison of one partition came to."""

    live: OutputDigests = field(default_factory=OutputDigests)
    replayed: OutputDigests = field(default_factory=OutputDigests)
    sessions: int = 0
    """Of the replay that were held against live."""
    rounded: set[str] = field(default_factory=set)
    """Ids of those that are equal but for the last bits of what the model computed."""
    by_setting: Counter[str] = field(default_factory=Counter)
    """Setting -> records that would be equal if both sides had it alike."""
    counts: dict[Difference, int] = field(default_factory=dict)
    named: dict[Difference, list[str]] = field(default_factory=dict)
    undetermined: dict[str, int] = field(default_factory=dict)
    """Reason -> sessions that were left out."""
    blockers: list[str] = field(default_factory=list)
    """Why this partition can't be called equal, whatever its digests."""

    @property
    def state(self) -> State:
        if self.blockers:
            return "undetermined"
        return "different" if self.counts else "equal"

    def differ(self, how: Difference, session_ids: Collection[str]) -> None:
        """Note differences; the first few are named."""
        if session_ids:
            self.counts[how] = len(session_ids)
            self.named[how] = sorted(session_ids)[:NAMED]

    def leave_out(self, reason: str, sessions: int = 1) -> None:
        if sessions:
            self.undetermined[reason] = self.undetermined.get(reason, 0) + sessions

    def as_dict(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "sessions": self.sessions,
            "within_tolerance": len(self.rounded),
            "live": self.live.as_dict(),
            "replay": self.replayed.as_dict(),
            "differences": dict(self.counts),
            "session_ids": dict(self.named),
            "undetermined": dict(self.undetermined),
            "because": list(self.blockers),
        }


class Versions(NamedTuple):
    """Who made the sessions of the replay."""

    rules: str
    models: Collection[str]


class SessionComparison:
    """Hand it each session of the replay, undetermined ones too, then `finish`."""

    def __init__(
        self,
        live: Mapping[SessionKey, PublishedSession],
        time_range: TimeRange,
        undetermined: UndeterminedSessions,
        spans: UndeterminedSpans,
        versions: Versions,
        unpublished: Collection[str] = (),
        erased: Collection[str] = (),
    ) -> None:
        """`live` in order of publishing; `undetermined` and `spans` are this comparison's own. `unpublished`:
        ids that live hasn't got to; `erased`: visitors whose clicks live has dropped at some moment."""
        self._unpublished = unpublished
        self._erased = erased
        self._spans = spans
        self._compared = ComparisonResult()
        self._live: dict[SessionKey, PublishedSession] = {}
        self._by_others: set[str] = set()
        """Ids of sessions that another bundle made."""
        self._matched: set[SessionKey] = set()
        self._different: set[str] = set()
        self._missing: list[Session] = []
        other_rules: list[PublishedSession] = []
        for key, session in live.items():
            # Asked of every session, for one before the time range may reach into it.
            is_undetermined = undetermined.is_undetermined(session)
            if is_undetermined:
                spans.add(session)
            if not time_range.holds(session.closed_at):
                continue
            if session.visitor_id in erased:
                self._compared.leave_out(f"published, {ERASED}")
            elif session.rules_version != versions.rules:
                other_rules.append(session)
            elif is_undetermined:
                self._compared.leave_out(f"published, {UNDETERMINED}")
            elif session.model_version not in versions.models:
                self._compared.leave_out(f"made by bundle {session.model_version}")
                self._by_others.add(session.session_id)
            else:
                self._live[key] = session
        self._block(other_rules, versions.rules)

    def model_version(self, session: Session) -> str | None:
        """Of the bundle that scored it while live; None if it isn't among live's."""
        published = self._live.get((session.session_id, session.closed_at))
        return None if published is None else published.model_version

    def add(self, session: Session, hashes: Mapping[str, Mapping[Kind, RecordHashes]]) -> None:
        """A session of the replay; `hashes` by model_version."""
        compared = self._compared
        if session.visitor_id in self._erased:
            compared.leave_out(f"replayed, {ERASED}")
            return
        key = session.session_id, session.closed_at
        published = self._live.get(key)
        if published is None or not any(published.hashes.values()):
            if session.session_id in self._by_others:
                return
            if session.session_id in self._unpublished:
                compared.leave_out("not published yet")
            elif self._spans.touch(session):
                compared.leave_out(f"replayed, {UNDETERMINED}")
            else:
                compared.sessions += 1
                self._missing.append(session)
                self._add_all(compared.replayed, next(iter(hashes.values())))
            return
        compared.sessions += 1
        self._matched.add(key)
        mine = hashes.get(published.model_version, {})
        self._add_all(compared.replayed, mine)
        for kind, of_live in published.hashes.items():
            same = self._same(kind, mine.get(kind), of_live)
            if same is None:
                self._different.add(session.session_id)
                compared.by_setting.update(self._settings_between(kind, mine.get(kind), of_live))
                continue
            if same != mine[kind]:
                compared.rounded.add(session.session_id)
            of_live.remove(same)
            compared.live.add_hashes(kind, same)

    @staticmethod
    def _same(kind: Kind, found: RecordHashes | None, of_live: list[RecordHashes]) -> RecordHashes | None:
        """Live's record that is the replay's, to the last bit or else but for rounding."""
        if found is None or found in of_live:
            return found
        return next((each for each in of_live if differ_by_rounding(kind, each, found)), None)

    @staticmethod
    def _settings_between(kind: Kind, found: RecordHashes | None, of_live: list[RecordHashes]) -> list[str]:
        between = [setting_between(kind, each, found) for each in of_live] if found else []
        return [setting for setting in between if setting][:1]

    def finish(self) -> ComparisonResult:
        """What is left of live has no session in the replay, or not so often."""
        compared = self._compared
        extra: set[str] = set()
        twice: set[str] = set()
        for key, session in self._live.items():
            left = [(kind, each) for kind, hashes in session.hashes.items() for each in hashes]
            if not left:
                continue
            if key not in self._matched and self._spans.touch(session):
                compared.leave_out(f"published, {UNDETERMINED}")
                continue
            for kind, each in left:
                compared.live.add_hashes(kind, each)
            (twice if key in self._matched else extra).add(session.session_id)
        missing = {session.session_id for session in self._missing}
        different = self._different | (missing & extra)
        compared.differ("missing", missing - different)
        compared.differ("extra", extra - different)
        compared.differ("different", different)
        compared.differ("twice", twice - different)
        return compared

    def _block(self, other_rules: list[PublishedSession], rules_version: str) -> None:
        if other_rules:
            first, last = other_rules[0], other_rules[-1]
            self._compared.leave_out("published under other rules", len(other_rules))
            self._compared.blockers.append(
                f"{len(other_rules)} sessions, closed from {first.closed_at} to {last.closed_at}, were cut by"
                f" rules {first.rules_version}, the settings here give {rules_version}: verify with the"
                " settings of that time, or a time range without them"
            )
        made_by = [reason for reason in self._compared.undetermined if reason.startswith("made by bundle")]
        for reason in made_by:
            self._compared.blockers.append(
                f"{self._compared.undetermined[reason]} sessions were {reason}, which isn't at hand: add it "
                "with --bundle"
            )

    @staticmethod
    def _add_all(digests: OutputDigests, hashes: Mapping[Kind, RecordHashes]) -> None:
        for kind, found in hashes.items():
            digests.add_hashes(kind, found)
