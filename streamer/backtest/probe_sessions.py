"""The sessions of a probe, with their vectors and the time from on which each was known.

From a replay's file: a visitor's session is known from its `closed_at` on, a customer's from the `as_of` of
the record that has it, in the file of customers beside. From a file of clicks, cut by the settings' rules and
scored by a bundle: sessions of customers are those with a login.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamer.backtest.probe_features import USER
from streamer.backtest.tasks import customer, outcome_lines
from streamer.errors import UsageError
from streamer.models.arrays import Float64
from streamer.models.bundle import Bundle
from streamer.models.evaluation.features import NEVER
from streamer.models.evaluation.probe.rows import KnownSessions, Outcome
from streamer.models.evaluation.task_rows import ClosedSessions
from streamer.models.scorer import ScoreError, Scorer
from streamer.parquet_rows import opened
from streamer.replay.options import users_beside
from streamer.replay.rows import ROW_GROUP, LastRevisions, require_columns, session_of_row
from streamer.schemas.click import ROW_FIELDS, Session

_SCORED_AT_ONCE = 2_000
_NO_SESSION = Session("", "", None, NEVER, NEVER, NEVER, 0, "gap", False, [])


class _Known(NamedTuple):
    owner: str
    known_at: int
    session: Session
    vector: Sequence[float]


def read_probe_outcomes(path: Path, id_column: str) -> list[Outcome]:
    """A clicked tile is the outcome `clicked TILE`; tiles of which none was clicked are none. Raises
    UsageError, also if there is none with this id."""
    outcomes = []
    for number, line in outcome_lines(path):
        if (line.user_id is not None) != (id_column == USER):
            continue
        name = line.outcome if line.tiles is None else line.clicked and f"clicked {line.clicked}"
        if name:
            outcomes.append(Outcome(line.whose, line.at_ms, name, f"{path}, line {number}"))
    if not outcomes:
        raise UsageError(f"{path}: no outcome with {id_column}; expected at least one")
    return outcomes


def sessions_of_replay(path: Path, id_column: str, owners: set[str]) -> KnownSessions:
    """With the vectors of the file's first bundle. Raises UsageError if it isn't one of a replay."""
    records = list(_records(path, owners)) if id_column == USER else []
    wanted = {session_id for _, _, session_id in records}
    space = ""
    by_id: dict[str, tuple[Session, list[float]]] = {}
    with opened(path) as file:
        columns = [*ROW_FIELDS, "clicks", "model_version", "embedding", "embedding_space"]
        require_columns(path, file, columns)
        last = LastRevisions(file)
        for row in _of_first_bundle(file, columns):
            space = row.pop("embedding_space")
            vector = row.pop("embedding")
            is_wanted = row["session_id"] in wanted if id_column == USER else row["visitor_id"] in owners
            is_last = id_column == USER or last.has(row["session_id"], row["revision"])
            if is_wanted and is_last and row["is_final"] and not row["is_bot"]:
                by_id[row["session_id"]] = session_of_row(row), vector
    if id_column == USER:
        return _known(_by_records(records, by_id), space)
    found = [_Known(s.visitor_id, s.closed_at, s, vector) for s, vector in by_id.values()]
    return _known(found, space)


def scored_sessions(
    sessions: Iterable[Session], bundle: Bundle, id_column: str, owners: set[str]
) -> KnownSessions:
    """Those of the owners; what the bundle can't score is left out."""
    of_owners = [
        (owner, session)
        for session in sessions
        if not session.is_bot and (owner := _owner(session, id_column)) in owners
    ]
    scorer = Scorer(bundle)
    found = []
    for start in range(0, len(of_owners), _SCORED_AT_ONCE):
        chunk = of_owners[start : start + _SCORED_AT_ONCE]
        for (owner, session), scored in zip(chunk, scorer.score([s for _, s in chunk]), strict=True):
            if not isinstance(scored, ScoreError):
                found.append(_Known(str(owner), session.closed_at, session, scored.embedding.tolist()))
    return _known(found, bundle.embedding_space)


def _owner(session: Session, id_column: str) -> str | None:
    if id_column == USER:
        return None if session.user_id is None else customer(session.user_id)
    return session.visitor_id


def _of_first_bundle(file: Any, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    first: str | None = None
    for batch in file.iter_batches(ROW_GROUP, columns=list(columns)):
        for row in batch.to_pylist():
            model = row.pop("model_version")
            first = first or model
            if model == first:
                yield row


def _records(path: Path, owners: set[str]) -> Iterator[tuple[str, int, str | None]]:
    """(owner, as_of, session_id) of each record; no session_id: nothing is left of the customer."""
    beside = users_beside(path)
    with opened(beside) as file:
        columns = ["as_of", "user_id", "session_id", "model_version"]
        require_columns(beside, file, columns)
        for row in _of_first_bundle(file, columns):
            owner = customer(row["user_id"])
            if owner in owners:
                yield owner, row["as_of"], row["session_id"]


def _by_records(
    records: Iterable[tuple[str, int, str | None]], by_id: dict[str, tuple[Session, list[float]]]
) -> list[_Known]:
    found = []
    for owner, as_of, session_id in records:
        session, vector = by_id.get(str(session_id), (_NO_SESSION, []))
        # A record may hold a session before it closed; its clicks here are all of them.
        found.append(_Known(owner, max(as_of, session.closed_at), session, vector))
    return found


def _known(found: Sequence[_Known], space: str) -> KnownSessions:
    sessions = [each.session for each in found]
    closed = ClosedSessions(
        tuple(each.owner for each in found),
        np.array([session.started_at for session in sessions], dtype=np.int64),
        np.array([session.closed_at for session in sessions], dtype=np.int64),
        np.array([each.known_at for each in found], dtype=np.int64),
    )
    return KnownSessions(closed, sessions, _vectors(found), space)


def _vectors(found: Sequence[_Known]) -> Float64:
    """[S, D]; zeros where there is no session."""
    width = max((len(each.vector) for each in found), default=0)
    vectors = [each.vector or [0.0] * width for each in found]
    return np.array(vectors, dtype=np.float64).reshape(len(found), width)
