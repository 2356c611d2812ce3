"""The rows of a probe: a team's features at a time, the last session closed before, and what came after.

A row is labelled with the first outcome from its own time on, within a given time; NONE if there was none.
Rows whose time isn't over by the last outcome on record are left out: nobody knows yet. So are rows without
a session closed strictly before them, for there is no embedding to judge.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.features import FeatureTable, require_known
from streamer.models.evaluation.task_rows import ClosedSessions, LastClosedSession
from streamer.models.fused.encodings import Columns
from streamer.models.fused.scorer import Inputs
from streamer.schemas.click import Session

NONE = "(none)"
"""The class of rows without an outcome in time."""
ANY = "any"
"""The class of all outcomes that count as one."""
MOST_CLASSES = 8
FEWEST_OWNERS = 20
"""Visitors or customers with rows of a class: fewer can't be learnt from, nor tested on."""
MOST_ROWS = 20_000
"""More are sampled, by whole visitor or customer, the same ones each time."""


class ProbeError(ValueError):
    """Nothing can be measured on these inputs; the text says what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Outcome:
    owner: str
    at: int
    """ms UTC"""
    name: str
    place: str
    """Where it stands, for messages."""


@dataclass(frozen=True, slots=True)
class TeamFeatures:
    """R rows as the team has them."""

    owners: Sequence[str]
    """[R]: visitors or customers; what rows are split and resampled by."""
    at: Int64
    """[R], ms UTC"""
    columns: Columns


@dataclass(frozen=True, slots=True)
class KnownSessions:
    """S sessions of people, by owner, with the time from on which each was known."""

    closed: ClosedSessions
    sessions: Sequence[Session]
    embeddings: Float64
    """[S, D]"""
    embedding_space: str


@dataclass(frozen=True, slots=True)
class ProbeRows:
    """N rows."""

    owners: tuple[str, ...]
    inputs: Inputs
    labels: Int64
    """[N]: places among the classes"""
    classes: tuple[str, ...]
    within_ms: int
    embedding_space: str
    left_out: Mapping[str, int]
    """Rows by reason."""
    memberships: Float64 | None = None
    """[N, K]: of the embeddings in a bundle's prototypes; None where there are none to compare with."""


def probe_rows(
    features: TeamFeatures,
    outcomes: Sequence[Outcome],
    known: KnownSessions,
    within_ms: int,
    wanted: Sequence[str] = (),
    as_one: bool = False,
    with_none: bool = True,
) -> ProbeRows:
    """`wanted`: patterns of the outcomes that count, by default all; `as_one`: all of these are one class.
    Without `with_none` rows need an outcome.

    Raises ProbeError if there is too little to measure anything.
    """
    counted = _wanted(outcomes, wanted, as_one)
    last = LastClosedSession(known.closed)
    _require_sessions_before(counted, last)
    by_owner: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for outcome in counted:
        by_owner[outcome.owner].append((outcome.at, outcome.name))
    for events in by_owner.values():
        events.sort()
    over = max(outcome.at for outcome in outcomes)
    left_out: Counter[str] = Counter()
    rows: list[tuple[int, int, str]] = []
    for row, (owner, at) in enumerate(zip(features.owners, features.at.tolist(), strict=True)):
        session = last.last_before(owner, at)
        name = _first_within(by_owner.get(owner, []), at, within_ms)
        if session is None:
            left_out["no session before"] += 1
        elif at + within_ms > over + 1:
            left_out["outcome not known yet"] += 1
        elif name is None and not with_none:
            left_out["no outcome in time"] += 1
        else:
            rows.append((row, session, name or NONE))
    rows, sampled_out = _sampled(rows, features.owners)
    if sampled_out:
        left_out["sampled out"] = sampled_out
    _require_classes(rows, features.owners, left_out)
    return _assembled(rows, features, known, within_ms, left_out)


def _wanted(outcomes: Sequence[Outcome], wanted: Sequence[str], as_one: bool) -> list[Outcome]:
    if not outcomes:
        raise ProbeError("outcomes: none, expected at least one")
    names = sorted({outcome.name for outcome in outcomes})
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ProbeError(f"--outcome {pattern!r}: no such outcome; expected one of {_some(names)}")
    counted = {name for name in names if not wanted or any(fnmatchcase(name, pattern) for pattern in wanted)}
    if len(counted) > MOST_CLASSES and not as_one:
        raise ProbeError(
            f"outcomes: {len(counted)} different ones, expected at most {MOST_CLASSES}; choose by --outcome"
            f" among {_some(names)}, or count them as one by --any"
        )
    chosen = [outcome for outcome in outcomes if outcome.name in counted]
    return [replace(outcome, name=ANY) for outcome in chosen] if as_one else chosen


def _require_sessions_before(outcomes: Iterable[Outcome], last: LastClosedSession) -> None:
    """Of every outcome at least one has to come after a session of who had it: else it is a wrong join."""
    first: dict[str, Outcome] = {}
    preceded = set()
    for outcome in outcomes:
        first.setdefault(outcome.name, outcome)
        if last.last_before(outcome.owner, outcome.at) is not None:
            preceded.add(outcome.name)
    for name, outcome in first.items():
        if name not in preceded:
            raise ProbeError(
                f"{outcome.place}: no session precedes the outcome {name!r}, here or anywhere else; expected"
                " sessions of the same ids that closed before"
            )


def _first_within(events: Sequence[tuple[int, str]], at: int, within_ms: int) -> str | None:
    place = bisect_left(events, (at, ""))
    return events[place][1] if place < len(events) and events[place][0] < at + within_ms else None


def _sampled(
    rows: list[tuple[int, int, str]], owners: Sequence[str]
) -> tuple[list[tuple[int, int, str]], int]:
    """Of too many rows those of owners drawn at random, always the same."""
    if len(rows) <= MOST_ROWS:
        return rows, 0
    counts = Counter(owners[row] for row, _, _ in rows)
    names = sorted(counts)
    kept: set[str] = set()
    total = 0
    for place in np.random.default_rng(0).permutation(len(names)).tolist():
        total += counts[names[place]]
        if total > MOST_ROWS:
            break
        kept.add(names[place])
    chosen = [each for each in rows if owners[each[0]] in kept]
    return chosen, len(rows) - len(chosen)


def _require_classes(
    rows: Sequence[tuple[int, int, str]], owners: Sequence[str], left_out: Mapping[str, int]
) -> None:
    by_class: dict[str, set[str]] = defaultdict(set)
    for row, _, name in rows:
        by_class[name].add(owners[row])
    because = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "none"
    if len(by_class) < 2:
        found = f"all {len(rows):,} are {next(iter(by_class))!r}" if rows else "none is left"
        raise ProbeError(
            f"rows with a session and a known outcome: {found}, expected at least two classes"
            f" (left out: {because})"
        )
    for name, found_owners in sorted(by_class.items()):
        if len(found_owners) < FEWEST_OWNERS:
            raise ProbeError(
                f"rows labelled {name!r}: too few, of {len(found_owners)} visitors or customers, expected at"
                f" least {FEWEST_OWNERS} (left out: {because})"
            )


def _assembled(
    rows: Sequence[tuple[int, int, str]],
    features: TeamFeatures,
    known: KnownSessions,
    within_ms: int,
    left_out: Mapping[str, int],
) -> ProbeRows:
    classes = tuple(sorted({name for _, _, name in rows}, key=lambda name: (name != NONE, name)))
    of_team = [row for row, _, _ in rows]
    of_sessions = [session for _, session, _ in rows]
    embeddings = FeatureTable("embedding", known.embeddings[of_sessions], known.closed.known_at[of_sessions])
    require_known(embeddings, features.at[of_team])
    inputs = Inputs(
        columns={name: [values[row] for row in of_team] for name, values in features.columns.items()},
        at=features.at[of_team],
        sessions=[known.sessions[session] for session in of_sessions],
        embeddings=embeddings.values,
    )
    return ProbeRows(
        owners=tuple(features.owners[row] for row in of_team),
        inputs=inputs,
        labels=np.array([classes.index(name) for _, _, name in rows], dtype=np.int64),
        classes=classes,
        within_ms=within_ms,
        embedding_space=known.embedding_space,
        left_out=dict(left_out),
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
