"""Simulated data as the evaluation sees it: sessions, rows of both tasks, what the app knows, the truth.

Sessions are cut by the product itself; the caller passes the function, for models import nothing of streamer.
Settings of the app alone leave clicks and sessions as they are, so these are cut once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from streamer.models.arrays import Bool, Float64, Int64
from streamer.models.evaluation.features import FeatureTable
from streamer.models.evaluation.task_rows import (
    ClosedSessions,
    ConversionRows,
    Decisions,
    Outcomes,
    Record,
    TileRows,
    app_only,
    conversion_rows,
    session_features,
    tile_rows,
)
from streamer.models.simulator import SimulatorConfig, simulate
from streamer.models.simulator.files import write_table
from streamer.schemas.click import Session

Cutter = Callable[[Path], list[Session]]
"""A file of clicks to its closed sessions."""
FADING_DAYS = 4.0
"""Tile rows have every session feature twice: as it is, and fading with the time since."""


@dataclass(frozen=True)
class SimulatedData:
    """S sessions of people; features of sessions are arrays [S, F] in their order."""

    sessions: Sequence[Session]
    outcomes: Outcomes
    names: tuple[str, ...]
    """Of the latent intents, sorted."""
    intent: Int64
    """[S]: the first latent intent; what the oracle knows and nobody else."""
    intents: Bool
    """[S, I]: all latent intents of a session, one or two."""
    never_login: Bool
    """[S]: whether the visitor never logs in on the web."""
    table: ClosedSessions = field(repr=False)

    @cached_property
    def tiles(self) -> TileRows:
        return tile_rows(self.outcomes, self.table)

    @cached_property
    def conversions(self) -> ConversionRows:
        return conversion_rows(self.outcomes, self.table)

    @cached_property
    def tile_floor(self) -> FeatureTable:
        return app_only(self.outcomes, self.tiles.decisions)

    @cached_property
    def conversion_floor(self) -> FeatureTable:
        return app_only(self.outcomes, self.conversions.decisions)

    @property
    def oracle(self) -> Float64:
        """[S, I]: the first latent intent, one-hot."""
        return np.eye(len(self.names))[self.intent]

    def tile_features(self, name: str, values: Float64) -> FeatureTable:
        return session_features(name, values, self.table, self.tiles.decisions, FADING_DAYS)

    def conversion_features(self, name: str, values: Float64) -> FeatureTable:
        return session_features(name, values, self.table, self.conversions.decisions)

    def with_app(self, config: SimulatorConfig) -> SimulatedData:
        """The same clicks, another app; `config` may differ in settings of the app alone."""
        simulated = simulate(config)
        return replace(self, outcomes=_outcomes(simulated))


def simulate_data(config: SimulatorConfig, cut: Cutter, folder: Path) -> SimulatedData:
    """`folder` holds the clicks while they are cut."""
    simulated = simulate(config)
    folder.mkdir(parents=True, exist_ok=True)
    # A folder of its own: several steps may run at once.
    with TemporaryDirectory(dir=folder) as own:
        clicks = Path(own) / "clicks.jsonl.gz"
        write_table(simulated.clicks(), clicks, level=1)
        sessions = people(cut(clicks))
    return _data_of(sessions, _outcomes(simulated), list(simulated.sessions()), list(simulated.visitors()))


def people(sessions: Sequence[Session]) -> list[Session]:
    """Without bots, in order of (start, id)."""
    kept = [session for session in sessions if session.clicks and not session.is_bot]
    return sorted(kept, key=lambda session: (session.started_at, session.session_id))


def decisions_where(decisions: Decisions, sessions: Bool) -> Bool:
    """[N]: whether the row's session is one of those."""
    chosen: Bool = sessions[decisions.session]
    return chosen


def _outcomes(simulated: object) -> Outcomes:
    tables = (list(getattr(simulated, name)()) for name in ("users", "impressions", "conversions"))
    return Outcomes(*tables)


def _data_of(
    sessions: Sequence[Session], outcomes: Outcomes, truth: Sequence[Record], visitors: Sequence[Record]
) -> SimulatedData:
    known = {(row["visitor_id"], row["start"]): row["intents"] for row in truth if row["intents"]}
    # A session that the product cut otherwise than the simulator began it has no truth; it is left out.
    sessions = [s for s in sessions if (s.visitor_id, s.started_at) in known]
    latent = [known[s.visitor_id, s.started_at] for s in sessions]
    names = tuple(sorted({name for intents in known.values() for name in intents}))
    place = {name: index for index, name in enumerate(names)}
    every = np.zeros((len(sessions), len(names)), dtype=np.bool_)
    for row, intents in enumerate(latent):
        every[row, [place[name] for name in intents]] = True
    anonymous = {row["visitor_id"]: row["never_login"] for row in visitors}
    return SimulatedData(
        sessions=sessions,
        outcomes=outcomes,
        names=names,
        intent=np.array([place[intents[0]] for intents in latent], dtype=np.int64),
        intents=every,
        never_login=np.array([anonymous[s.visitor_id] for s in sessions], dtype=np.bool_),
        table=ClosedSessions.of(sessions),
    )
