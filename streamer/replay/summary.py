"""What a replay came to: counters, sessions and digests, over all partitions and for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamer.replay.digests import OutputDigests
from streamer.replay.engine import LaneResult
from streamer.replay.plan import Plan
from streamer.replay.scoring import Bench
from streamer.replay.tally import Tally, accounts_of, added


@dataclass(frozen=True)
class Summary:
    plan: Plan
    bench: Bench
    results: dict[int, LaneResult]
    out: str | None
    rows: int | None
    """Of the file that was written."""
    seconds: float
    before: int
    """Records that were done when these seconds began."""
    is_to_report: bool = True
    """Whether a report of the file is this process's to write: one member of a group does, for all."""

    @property
    def tally(self) -> Tally:
        total = Tally()
        for result in self.results.values():
            total.add(result.tally)
        return total

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        tally, counters = self.tally, added(r.counters for r in self.results.values())
        clicks = accounts_of(tally, counters)
        done = clicks["read"] - self.before
        return {
            "source": self.plan.source,
            "from": self.plan.from_ms,
            "to": self.plan.to_ms,
            "rules_version": self.plan.rules_version,
            "clicks": clicks,
            "adds_up": clicks["read"] == sum(clicks.values()) - clicks["read"],
            "sessions": {
                "selected": tally.sessions,
                "outside_the_stretch": tally.outside_sessions,
                "undetermined": tally.torn_sessions,
                "unscored": tally.unscored_sessions,
            },
            "closed_by": dict(sorted(tally.closed_by.items())),
            "dead_letters": dict(sorted(tally.dead.items())),
            "bundles": [
                {
                    "model_version": bundle.model_version,
                    "embedding_space": bundle.embedding_space,
                    "digests": self._digests(place).as_dict(),
                }
                for place, bundle in enumerate(self.bench.bundles)
            ],
            "partitions": [self._partition(number) for number in sorted(self.results)],
            "out": self.out,
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "clicks_per_s": round(done / self.seconds) if self.seconds else None,
        }

    def _digests(self, bundle: int) -> OutputDigests:
        total = OutputDigests()
        for result in self.results.values():
            total.merge(result.digests[bundle])
        return total

    def _partition(self, number: int) -> dict[str, Any]:
        lane = next(lane for lane in self.plan.lanes if lane.number == number)
        result = self.results[number]
        return {
            "partition": number,
            "offsets": [lane.start, lane.end],
            "read": result.counters.received,
            "sessions": result.tally.sessions,
            "undetermined": result.tally.torn_sessions,
            "digests": [digests.as_dict() for digests in result.digests],
        }
