"""The rows of both tasks: which web session is known when, what was decided, what came of it.

Rules: a session counts from its `closed_at` on, never from its end: before, nobody could have scored it.
A user's session is the last one closed strictly before the decision; who a user is on the web is what the
bank believes, right or wrong.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.evaluation.features import FeatureTable, Floats
from models.evaluation.splits import Ints
from schemas.click import Session

Record = Mapping[str, Any]
DAY_MS = 86_400_000
FRESH_DAYS = 7
"""A tile row needs a web session closed at most this long before."""
CONVERSION_DAYS = 14
"""A session's conversions are those within this time after it closed."""


@dataclass(frozen=True, slots=True)
class SessionTable:
    """S closed sessions, in the order of the arrays that describe them."""

    visitor_ids: tuple[str, ...]
    started_at: Ints
    closed_at: Ints

    @classmethod
    def of(cls, sessions: Sequence[Session]) -> SessionTable:
        return cls(
            tuple(session.visitor_id for session in sessions),
            np.array([session.started_at for session in sessions], dtype=np.int64),
            np.array([session.closed_at for session in sessions], dtype=np.int64),
        )

    def true_intents(self, truth: Iterable[Record], names: Sequence[str]) -> Ints:
        """[S]: the place of each session's first latent intent among `names`; -1 where there is none."""
        place = {name: index for index, name in enumerate(names)}
        first = {
            (record["visitor_id"], record["start"]): place[record["intents"][0]]
            for record in truth
            if record["intents"]
        }
        keys = zip(self.visitor_ids, self.started_at.tolist(), strict=True)
        return np.array([first.get(key, -1) for key in keys], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What happened in the app: rows of users, impressions and conversions as the simulator writes them."""

    users: Sequence[Record]
    impressions: Sequence[Record]
    conversions: Sequence[Record]

    def tiles(self) -> tuple[str, ...]:
        return tuple(sorted({tile for row in self.impressions for tile in row["tiles"]}))

    def products(self) -> tuple[str, ...]:
        bought = {row["product"] for row in self.conversions}
        return tuple(sorted(bought.union(*(user["holdings"] for user in self.users))))


@dataclass(frozen=True, slots=True)
class Decisions:
    """N moments at which something was decided for a user, with the web session known then."""

    user: Ints
    """[N]: place among the users."""
    visitor_ids: tuple[str, ...]
    """[N]: the linked web visitor; what rows are split and resampled by."""
    at: Ints
    session: Ints
    """[N]: place among the sessions."""


@dataclass(frozen=True, slots=True)
class TileRows:
    """N impressions that were clicked, K tiles each."""

    decisions: Decisions
    shown: Ints
    """[N, K]: tiles in order of the slots."""
    clicked: Ints
    """[N]: the slot that was clicked."""


@dataclass(frozen=True, slots=True)
class ConversionRows:
    """N sessions of users with a link, P products."""

    decisions: Decisions
    bought: Floats
    """[N, P]: 1 where the product was bought in the time after the session closed."""


class Closings:
    """Finds the last session of a visitor that closed before a moment."""

    def __init__(self, sessions: SessionTable) -> None:
        self._rows: dict[str, list[int]] = defaultdict(list)
        for row in np.lexsort((sessions.started_at, sessions.closed_at)).tolist():
            self._rows[sessions.visitor_ids[row]].append(row)
        self._times = {v: sessions.closed_at[rows].tolist() for v, rows in self._rows.items()}

    def last_before(self, visitor_id: str, at: int) -> int | None:
        """The row of the session; None if there is none."""
        before = bisect_left(self._times.get(visitor_id, []), at)
        return self._rows[visitor_id][before - 1] if before else None


def tile_rows(outcomes: Outcomes, sessions: SessionTable) -> TileRows:
    """Clicked impressions of linked users whose last session closed within FRESH_DAYS before."""
    link = [user["linked_visitor_id"] for user in outcomes.users]
    place = {user["user_id"]: index for index, user in enumerate(outcomes.users)}
    tile_at = {tile: index for index, tile in enumerate(outcomes.tiles())}
    closings = Closings(sessions)
    found: list[tuple[int, int, int]] = []
    kept: list[Record] = []
    for row in outcomes.impressions:
        user = place[row["user_id"]]
        if row["clicked"] is None or link[user] is None:
            continue
        session = closings.last_before(link[user], row["time"])
        if session is not None and row["time"] - sessions.closed_at[session] <= FRESH_DAYS * DAY_MS:
            found.append((user, row["time"], session))
            kept.append(row)
    slots = len(kept[0]["tiles"]) if kept else 0
    shown = [tile_at[tile] for row in kept for tile in row["tiles"]]
    return TileRows(
        _decisions(found, link),
        np.array(shown, dtype=np.int64).reshape(len(kept), slots),
        np.array([row["tiles"].index(row["clicked"]) for row in kept], dtype=np.int64),
    )


def conversion_rows(outcomes: Outcomes, sessions: SessionTable) -> ConversionRows:
    """Every session of every linked user, decided the moment after it closed."""
    link = [user["linked_visitor_id"] for user in outcomes.users]
    users_of: dict[str, list[int]] = defaultdict(list)
    for index, visitor_id in enumerate(link):
        if visitor_id is not None:
            users_of[visitor_id].append(index)
    found = [
        (user, int(closed_at) + 1, row)
        for row, (visitor_id, closed_at) in enumerate(
            zip(sessions.visitor_ids, sessions.closed_at, strict=True)
        )
        for user in users_of.get(visitor_id, [])
    ]
    decisions = _decisions(found, link)
    return ConversionRows(decisions, _bought(outcomes, decisions))


def _decisions(found: list[tuple[int, int, int]], link: Sequence[str | None]) -> Decisions:
    table = np.array(found, dtype=np.int64).reshape(-1, 3)
    visitor_ids = tuple(str(link[user]) for user in table[:, 0].tolist())
    return Decisions(table[:, 0].copy(), visitor_ids, table[:, 1].copy(), table[:, 2].copy())


def _bought(outcomes: Outcomes, decisions: Decisions) -> Floats:
    products = {product: index for index, product in enumerate(outcomes.products())}
    by_user: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in outcomes.conversions:
        by_user[row["user_id"]].append((row["time"], products[row["product"]]))
    bought = np.zeros((len(decisions.at), len(products)))
    for index, (user, at) in enumerate(zip(decisions.user.tolist(), decisions.at.tolist(), strict=True)):
        for time, product in by_user[outcomes.users[user]["user_id"]]:
            if at <= time < at + CONVERSION_DAYS * DAY_MS:
                bought[index, product] = 1.0
    return bought


def session_features(
    name: str, values: Floats, sessions: SessionTable, decisions: Decisions, fading_days: float | None = None
) -> FeatureTable:
    """[N, F] of `values` [S, F]: each row gets its session's features, known since that session closed.

    With `fading_days` [N, 2F]: a second copy that falls by the factor e in this time after the session.
    """
    closed_at = sessions.closed_at[decisions.session]
    own = values[decisions.session]
    if fading_days is not None:
        freshness = np.exp((closed_at - decisions.at) / (fading_days * DAY_MS))
        own = np.concatenate([own, own * freshness[:, None]], axis=1)
    return FeatureTable(name, own, closed_at)
