"""Sessions of a replay held against those that live has published, one partition at a time. Pure.

What can't be compared is counted by its reason, never passed over: sessions that may have begun before the
first click that was read, sessions that a bundle made which isn't at hand, sessions that live hasn't
published yet. A session that live published under other rules makes its whole partition incomparable.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from streamer.replay.digests import SCHEMA_OF, Kind, OutputDigests, Print
from streamer.replay.live import Published
from streamer.replay.stretch import Chains, Stretch

NAMED = 5
"""How many session_ids of each kind of difference are named."""
State = Literal["equal", "different", "undetermined"]
Difference = Literal["missing", "extra", "different", "twice"]


@dataclass
class Compared:
    """What the comparison of one partition came to."""

    live: OutputDigests = field(default_factory=OutputDigests)
    replayed: OutputDigests = field(default_factory=OutputDigests)
    sessions: int = 0
    """Of the replay that were held against live."""
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

    def differ(self, how: Difference, session_id: str) -> None:
        self.counts[how] = self.counts.get(how, 0) + 1
        names = self.named.setdefault(how, [])
        if len(names) < NAMED:
            names.append(session_id)

    def leave_out(self, reason: str, sessions: int = 1) -> None:
        if sessions:
            self.undetermined[reason] = self.undetermined.get(reason, 0) + sessions

    def as_dict(self) -> dict[str, Any]:
        return {
            "state": self.state,
            "sessions": self.sessions,
            "live": self.live.as_dict(),
            "replay": self.replayed.as_dict(),
            "differences": dict(self.counts),
            "session_ids": dict(self.named),
            "undetermined": dict(self.undetermined),
            "because": list(self.blockers),
        }


class Comparison:
    """Hand it each session of the replay, then `finish`."""

    def __init__(
        self,
        live: Mapping[str, Published],
        stretch: Stretch,
        chains: Chains,
        rules_version: str,
        model_versions: Collection[str],
        unpublished: Collection[str] = (),
    ) -> None:
        """`live` in order of publishing; `chains` is used up. `unpublished`: ids that live hasn't got to."""
        self._unpublished = unpublished
        self._compared = Compared()
        self._live: dict[str, Published] = {}
        self._left_out: set[str] = set()
        other_rules: list[Published] = []
        for session in live.values():
            # Asked of every session, for one before the stretch may reach into it.
            is_torn = chains.is_torn(session)
            if not stretch.holds(session.closed_at):
                continue
            if session.rules_version != rules_version:
                other_rules.append(session)
            elif is_torn:
                self._compared.leave_out("published by live, may have begun before what was read")
                self._left_out.add(session.session_id)
            elif session.model_version not in model_versions:
                self._compared.leave_out(f"made by bundle {session.model_version}")
                self._left_out.add(session.session_id)
            else:
                self._live[session.session_id] = session
        self._block(other_rules, rules_version)

    def add(self, session_id: str, prints: Mapping[str, Mapping[Kind, Print]]) -> None:
        """A session of the replay; `prints` by model_version."""
        if session_id in self._left_out:
            return
        compared = self._compared
        published = self._live.pop(session_id, None)
        if published is None:
            if session_id in self._unpublished:
                compared.leave_out("not published yet")
            else:
                compared.sessions += 1
                compared.differ("missing", session_id)
                self._add_all(compared.replayed, next(iter(prints.values()), {}))
            return
        compared.sessions += 1
        mine = prints.get(published.model_version, {})
        self._add_all(compared.replayed, mine)
        self._add_all(compared.live, published.prints)
        if published.twice:
            compared.differ("twice", session_id)
        elif mine != published.prints:
            compared.differ("different", session_id)

    def finish(self) -> Compared:
        """What is left of live has no session in the replay."""
        for session_id, published in self._live.items():
            self._compared.differ("extra", session_id)
            self._add_all(self._compared.live, published.prints)
        return self._compared

    def _block(self, other_rules: list[Published], rules_version: str) -> None:
        if other_rules:
            first, last = other_rules[0], other_rules[-1]
            self._compared.leave_out("published under other rules", len(other_rules))
            self._compared.blockers.append(
                f"{len(other_rules)} sessions, closed from {first.closed_at} to {last.closed_at}, were cut by"
                f" rules {first.rules_version}, the settings here give {rules_version}: verify with the"
                " settings of that time, or a stretch without them"
            )
        made_by = [reason for reason in self._compared.undetermined if reason.startswith("made by bundle")]
        for reason in made_by:
            self._compared.blockers.append(
                f"{self._compared.undetermined[reason]} sessions were {reason}, which isn't at hand: add it "
                "with --bundle"
            )

    @staticmethod
    def _add_all(digests: OutputDigests, prints: Mapping[Kind, Print]) -> None:
        for kind in SCHEMA_OF:
            if kind in prints:
                digests.add_print(kind, prints[kind])
