"""What the look-up service has answered held against the replay: the skew between served and replayed. Pure,
but for reading the topic.

A look-up was answered with a version of somebody's record, which the log names by a digest. It is the same if
the replay has made that version too. Of a visitor every final record can be made again. A customer's may have
been served between two sessions of different partitions, whose order only live knew: those aren't judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from streamer.errors import UsageError
from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup
from streamer.replay.comparison import State
from streamer.replay.time_range import TimeRange
from streamer.replay.topic_source import ends_of, records_of
from streamer.schemas import codec
from streamer.schemas.lookup import IdHash, digest_of
from streamer.settings import Settings

SAME, DIFFERENT, MISSING = "same", "different", "not replayed"
NO_RECORD, PROVISIONAL, OUTSIDE = (
    "without a record",
    "of sessions that were still open",
    "closed outside of the time range",
)
_JUDGED: Final = "visitors"


class ServedVersion(NamedTuple):
    """A version of somebody's record."""

    closed_at: int
    digest: str


class ServedComparison:
    """Takes in look-ups, then what the replay makes; `as_dict` says what came of it."""

    def __init__(self, id_hash: IdHash, time_range: TimeRange) -> None:
        self._hash = id_hash
        self._time_range = time_range
        self._served: dict[tuple[str, str], Counter[ServedVersion]] = {}
        """View and hashed id -> how often each version was answered."""
        self._replayed: dict[tuple[str, str], set[ServedVersion]] = {}
        """The same of the replay, of those who were looked up."""
        self._left_out: dict[str, Counter[str]] = {}
        """View -> reason -> look-ups."""

    def answered(self, lookup: codec.Record) -> None:
        """A record of the lookups topic."""
        view, closed_at = lookup["view"], lookup["closed_at"]
        reason = None
        if closed_at is None:
            reason = NO_RECORD
        elif not lookup["is_final"]:
            reason = PROVISIONAL
        elif not self._time_range.holds(closed_at):
            reason = OUTSIDE
        if reason is not None:
            self._left_out.setdefault(view, Counter())[reason] += 1
            return
        of_id = self._served.setdefault((view, lookup["id_hash"]), Counter())
        of_id[ServedVersion(closed_at, lookup["record_digest"])] += 1

    def replayed(self, view: str, id_: str, message: bytes) -> None:
        """A version of a record that the replay has made, in its current schema."""
        key = view, self._hash(view, id_)
        if key in self._served:
            version = ServedVersion(codec.decode(message)[1]["closed_at"], digest_of(message))
            self._replayed.setdefault(key, set()).add(version)

    @property
    def state(self) -> State:
        """Of visitors: `different` if a look-up was; `undetermined` if not one of theirs was replayed."""
        judged = self.counts().get(_JUDGED, Counter())
        if judged[DIFFERENT]:
            return "different"
        return "undetermined" if judged[MISSING] and not judged[SAME] else "equal"

    def counts(self) -> dict[str, Counter[str]]:
        """View -> what came of it -> look-ups."""
        found = {view: Counter(reasons) for view, reasons in self._left_out.items()}
        for key, versions in self._served.items():
            replayed = self._replayed.get(key, set())
            moments = {version.closed_at for version in replayed}
            for version, times in versions.items():
                how = SAME if version in replayed else DIFFERENT if version.closed_at in moments else MISSING
                found.setdefault(key[0], Counter())[how] += times
        return found

    def as_dict(self) -> dict[str, Any]:
        views = {
            view: {"look_ups": dict(counts), "skew": _skew(counts)} for view, counts in self.counts().items()
        }
        return {"state": self.state, "views": dict(sorted(views.items()))}


def _skew(counts: Mapping[str, int]) -> float | None:
    """Of the look-ups whose session was replayed, the share that was answered with something else."""
    same, different = counts.get(SAME, 0), counts.get(DIFFERENT, 0)
    return different / (same + different) if same + different else None


async def served_lookups(settings: Settings, time_range: TimeRange) -> ServedComparison:
    """All that the lookups topic has. Raises StreamerError, and UsageError without the key."""
    if settings.serve.log_key is None:
        raise UsageError("verify --served: expected serve.log_key, with which the ids were hashed")
    compared = ServedComparison(IdHash(settings.serve.log_key.get_secret_value()), time_range)
    lookup = SchemaLookup(settings.registry, COMMAND_PATIENCE_S)
    topic = settings.topics.lookups
    if not (ends := await ends_of(settings, topic)):
        raise UsageError(f"verify --served: there is no topic {topic}, which serve.log_lookups fills")
    async for record in records_of(settings, topic, ends):
        own = await lookup.own_record(record)
        compared.answered(codec.decode(own.value)[1])
    return compared
