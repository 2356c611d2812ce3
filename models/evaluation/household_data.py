"""Simulated customers with several browsers, shared ones and links, as the evaluation of identity sees them.

Attribution and customers' records are made by the product's own stages; the caller passes them, for models
import nothing of streamer. S sessions, V versions of customers' records, I intents, D dimensions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np

from streamer.models.arrays import Bool, Float64, Int64
from streamer.models.bundle import Bundle
from streamer.models.evaluation.features import NEVER
from streamer.models.evaluation.simulated_data import Cutter
from streamer.models.evaluation.task_rows import ClosedSessions, Outcomes, Record
from streamer.models.simulator import Simulated, SimulatorConfig, simulate
from streamer.models.simulator.files import write_table
from streamer.models.simulator.households import Households, draw_households
from streamer.schemas.click import Session

INTEREST_DAYS = 30.0
"""How long interests last on average: who looks for a card needs days, for a mortgage months; a month lies
between. Chosen before anything was measured."""

ScoredSession = tuple[int, bytes]
"""`closed_at` of a session, and its record of the visitors topic."""
Moment = tuple[int, str, Record | None]
"""From when on (ms UTC), whose record, and the record; None where nothing is left of the customer."""


class IdentityStages(Protocol):
    """The product's stages, over sessions in order of `closed_at` and the links of their visitors."""

    @property
    def bundle(self) -> Bundle: ...

    def scored(self, sessions: Sequence[Session]) -> list[ScoredSession]: ...

    def attributed(
        self, sessions: Iterable[ScoredSession], links: Iterable[Record], lookback_days: float
    ) -> dict[str, tuple[str, str]]:
        """By session id, once everything was read: customer, and `login` or `link`."""
        ...

    def records(
        self, sessions: Iterable[ScoredSession], links: Iterable[Record], half_life_days: float
    ) -> Iterator[Moment]: ...


@dataclass(frozen=True)
class HouseholdData:
    sessions: Sequence[Session]
    """Bots' too."""
    scored: Sequence[ScoredSession]
    owners: Sequence[frozenset[str]]
    """[S]: the customers whose clicks a session has; none for a bot's."""
    simulated: Simulated
    links: Sequence[Record]

    @property
    def app_users(self) -> frozenset[str]:
        return frozenset(person.user_id for person in self.simulated.people if person.has_app)

    @property
    def outcomes(self) -> Outcomes:
        """By customer: who a row's session is looked up for."""
        users = [{**user, "linked_visitor_id": user["user_id"]} for user in self.simulated.users()]
        return Outcomes(users, list(self.simulated.impressions()), list(self.simulated.conversions()))

    def with_links(self, seed: int, sharing: float, wrong_link_rate: float) -> HouseholdData:
        """The same people on the same browsers, with other links."""
        drawn = draw_households(self.simulated, seed, sharing=sharing, wrong_link_rate=wrong_link_rate)
        return replace(self, links=drawn.links)


def household_data(
    config: SimulatorConfig, sharing: float, cut: Cutter, stages: IdentityStages, folder: Path
) -> HouseholdData:
    """With right links alone. `folder` holds the clicks while they are cut."""
    simulated = simulate(replace(config, interest_days=INTEREST_DAYS))
    drawn = draw_households(simulated, config.seed, sharing=sharing, wrong_link_rate=0.0)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as own:
        clicks = Path(own) / "clicks.jsonl.gz"
        write_table(drawn.clicks(), clicks, level=1)
        sessions = cut(clicks)
    return HouseholdData(sessions, stages.scored(sessions), _owners(sessions, drawn), simulated, drawn.links)


def _owners(sessions: Sequence[Session], households: Households) -> list[frozenset[str]]:
    true: defaultdict[str, list[Record]] = defaultdict(list)
    for record in households.sessions():
        true[record["visitor_id"]].append(record)
    return [
        frozenset(
            record["user_id"]
            for record in true[session.visitor_id]
            if record["start"] <= session.ended_at and session.started_at <= record["end"]
        )
        for session in sessions
    ]


@dataclass(frozen=True)
class CustomerRecords:
    """Every version of every customer's record."""

    table: ClosedSessions
    """[V]: by customer, the latest session of each version, known from the version's moment on."""
    values: Mapping[str, Float64]
    """`latest_embedding`, `profile_embedding` [V, D]; `latest_intents`, `profile_intents` [V, I]."""
    sessions: Int64
    """[V]: how many stand behind the record."""
    has_new_latest: Bool
    """[V]: whether the latest session is another than that of the version before."""

    @classmethod
    def of(cls, moments: Iterable[Moment], bundle: Bundle) -> CustomerRecords:
        kept = list(moments)
        places = {intent.id: place for place, intent in enumerate(bundle.taxonomy.intents)}
        records: list[Mapping[str, Any]] = [_NOTHING if record is None else record for _, _, record in kept]
        width = max((len(record["embedding"]) for record in records), default=0)
        latest: dict[str, str | None] = {}
        is_new = []
        for (_, user_id, _), record in zip(kept, records, strict=True):
            is_new.append(record["session_id"] != latest.get(user_id))
            latest[user_id] = record["session_id"]
        return cls(
            ClosedSessions(
                tuple(user_id for _, user_id, _ in kept),
                np.array([record["started_at"] for record in records], dtype=np.int64),
                np.array([record["closed_at"] for record in records], dtype=np.int64),
                np.array([at for at, _, _ in kept], dtype=np.int64),
            ),
            {
                "latest_embedding": _vectors([record["embedding"] for record in records], width),
                "profile_embedding": _vectors([record["profile_embedding"] for record in records], width),
                "latest_intents": _chances([record["intents"] for record in records], places),
                "profile_intents": _chances([record["profile"] for record in records], places),
            },
            np.array([record["sessions"] for record in records], dtype=np.int64),
            np.array(is_new, dtype=np.bool_),
        )

    def where(self, chosen: Bool) -> CustomerRecords:
        """Only those versions; `chosen` [V]."""
        rows = np.flatnonzero(chosen)
        table = self.table
        return CustomerRecords(
            ClosedSessions(
                tuple(table.visitor_ids[row] for row in rows.tolist()),
                table.started_at[rows],
                table.closed_at[rows],
                table.known_at[rows],
            ),
            {name: values[rows] for name, values in self.values.items()},
            self.sessions[rows],
            self.has_new_latest[rows],
        )


_NOTHING: Record = {
    "session_id": None,
    "started_at": NEVER,
    "closed_at": NEVER,
    "embedding": [],
    "profile_embedding": [],
    "intents": [],
    "profile": [],
    "sessions": 0,
}


def _vectors(vectors: Sequence[Sequence[float]], width: int) -> Float64:
    """[V, D]; zeros where there is none."""
    return np.array([vector or [0.0] * width for vector in vectors], dtype=np.float64).reshape(-1, width)


def _chances(intents: Sequence[Sequence[Record]], places: Mapping[str, int]) -> Float64:
    """[V, I]"""
    found = np.zeros((len(intents), len(places)))
    for row, named in enumerate(intents):
        for intent in named:
            found[row, places[intent["intent_id"]]] = intent["probability"]
    return found
