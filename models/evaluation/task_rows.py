"""The rows of both tasks: the web session and the app's knowledge at a decision, and the outcome.

A session counts from its `closed_at` on, never from its end: before that, nobody could have scored it. A
user's session is the last one closed strictly before the decision; who a user is on the web is what the bank
believes, right or wrong. The app's own features (age, tenure, device, holdings, earlier tile clicks) hold
only what happened strictly before the decision.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamer.models.arrays import Float64, Int64
from streamer.models.evaluation.features import NEVER, FeatureTable
from streamer.schemas.click import Session

Record = Mapping[str, Any]
DAY_MS = 86_400_000
FRESH_DAYS = 7
"""A tile row needs a web session closed at most this long before."""
CONVERSION_DAYS = 14
"""A session's conversions are those within this time after it closed."""

_AGES = (25, 30, 35, 42, 50, 60, 67)
_DEVICES = ("desktop", "mobile", "tablet")


@dataclass(frozen=True, slots=True)
class ClosedSessions:
    """S closed sessions, in the order of the arrays that describe them.

    A customer's record is their latest session here, known from the record's time on. If nothing is left of
    the customer, the session's `closed_at` is NEVER.
    """

    visitor_ids: tuple[str, ...]
    started_at: Int64
    closed_at: Int64
    later_known_at: Int64 | None = None
    """Where sessions are known later than they closed."""

    @property
    def known_at(self) -> Int64:
        return self.closed_at if self.later_known_at is None else self.later_known_at

    @classmethod
    def of(cls, sessions: Sequence[Session]) -> ClosedSessions:
        return cls(
            tuple(session.visitor_id for session in sessions),
            np.array([session.started_at for session in sessions], dtype=np.int64),
            np.array([session.closed_at for session in sessions], dtype=np.int64),
        )

    def true_intents(self, truth: Iterable[Record], names: Sequence[str]) -> Int64:
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

    user: Int64
    """[N]: place among the users."""
    visitor_ids: tuple[str, ...]
    """[N]: the linked web visitor; what rows are split and resampled by."""
    at: Int64
    session: Int64
    """[N]: place among the sessions."""


@dataclass(frozen=True, slots=True)
class TileRows:
    """N impressions that were clicked, K tiles each."""

    decisions: Decisions
    shown: Int64
    """[N, K]: tiles in order of the slots."""
    clicked: Int64
    """[N]: the slot that was clicked."""


@dataclass(frozen=True, slots=True)
class ConversionRows:
    """N sessions of users with a link, P products."""

    decisions: Decisions
    bought: Float64
    """[N, P]: 1 where the product was bought in the time after the session closed."""


class LastClosedSession:
    """Finds the last session of a visitor that was known before a moment."""

    def __init__(self, sessions: ClosedSessions) -> None:
        self._rows: dict[str, list[int]] = defaultdict(list)
        self._closed_at = sessions.closed_at
        for row in np.lexsort((sessions.started_at, sessions.known_at)).tolist():
            self._rows[sessions.visitor_ids[row]].append(row)
        self._times = {v: sessions.known_at[rows].tolist() for v, rows in self._rows.items()}

    def last_before(self, visitor_id: str, at: int) -> int | None:
        """The row of the session; None if there is none."""
        before = bisect_left(self._times.get(visitor_id, []), at)
        row = self._rows[visitor_id][before - 1] if before else None
        return None if row is None or self._closed_at[row] == NEVER else row


def tile_rows(outcomes: Outcomes, sessions: ClosedSessions) -> TileRows:
    """Clicked impressions of linked users whose last session closed within FRESH_DAYS before."""
    link = [user["linked_visitor_id"] for user in outcomes.users]
    place = {user["user_id"]: index for index, user in enumerate(outcomes.users)}
    tile_at = {tile: index for index, tile in enumerate(outcomes.tiles())}
    closings = LastClosedSession(sessions)
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


def conversion_rows(outcomes: Outcomes, sessions: ClosedSessions) -> ConversionRows:
    """Every session of every linked user, decided the moment after it was known."""
    link = [user["linked_visitor_id"] for user in outcomes.users]
    users_of: dict[str, list[int]] = defaultdict(list)
    for index, visitor_id in enumerate(link):
        if visitor_id is not None:
            users_of[visitor_id].append(index)
    found = [
        (user, int(known_at) + 1, row)
        for row, (visitor_id, known_at) in enumerate(
            zip(sessions.visitor_ids, sessions.known_at, strict=True)
        )
        if sessions.closed_at[row] != NEVER
        for user in users_of.get(visitor_id, [])
    ]
    decisions = _decisions(found, link)
    return ConversionRows(decisions, _bought(outcomes, decisions))


def _decisions(found: list[tuple[int, int, int]], link: Sequence[str | None]) -> Decisions:
    table = np.array(found, dtype=np.int64).reshape(-1, 3)
    visitor_ids = tuple(str(link[user]) for user in table[:, 0].tolist())
    return Decisions(table[:, 0].copy(), visitor_ids, table[:, 1].copy(), table[:, 2].copy())


def _bought(outcomes: Outcomes, decisions: Decisions) -> Float64:
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
    name: str,
    values: Float64,
    sessions: ClosedSessions,
    decisions: Decisions,
    fading_days: float | None = None,
) -> FeatureTable:
    """[N, F] of `values` [S, F]: each row gets its session's features, known since that session was.

    With `fading_days` [N, 2F]: a second copy that falls by the factor e in this time after the session.
    """
    closed_at = sessions.closed_at[decisions.session]
    own = values[decisions.session]
    if fading_days is not None:
        freshness = np.exp((closed_at - decisions.at) / (fading_days * DAY_MS))
        own = np.concatenate([own, own * freshness[:, None]], axis=1)
    return FeatureTable(name, own, sessions.known_at[decisions.session])


def app_only(outcomes: Outcomes, decisions: Decisions) -> FeatureTable:
    """[N, F]"""
    history = _History(outcomes)
    static = np.array([_static(user) for user in outcomes.users])[decisions.user]
    rows = [
        history.at(user, at) for user, at in zip(decisions.user.tolist(), decisions.at.tolist(), strict=True)
    ]
    counts = np.array([counts for counts, _ in rows]).reshape(len(rows), history.width)
    known_at: Int64 = np.array([known_at for _, known_at in rows], dtype=np.int64)
    return FeatureTable("app_only", np.concatenate([static, counts], axis=1), known_at)


def _static(user: Record) -> list[float]:
    ages = [float(user["age"] >= age) for age in _AGES]
    devices = [float(user["device"] == device) for device in _DEVICES]
    return [*ages, *devices, float(np.log1p(user["tenure_months"]))]


class _History:
    """What each user held and had clicked at any moment."""

    def __init__(self, outcomes: Outcomes) -> None:
        products = {product: index for index, product in enumerate(outcomes.products())}
        tiles = {tile: len(products) + index for index, tile in enumerate(outcomes.tiles())}
        self._visits = len(products) + len(tiles)
        self.width = self._visits + 1
        place = {user["user_id"]: index for index, user in enumerate(outcomes.users)}
        self._events: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for index, user in enumerate(outcomes.users):
            self._events[index] += [(NEVER, products[product]) for product in user["holdings"]]
        for row in outcomes.conversions:
            self._events[place[row["user_id"]]].append((row["time"], products[row["product"]]))
        for row in outcomes.impressions:
            self._events[place[row["user_id"]]].append((row["time"], self._visits))
            if row["clicked"] is not None:
                self._events[place[row["user_id"]]].append((row["time"], tiles[row["clicked"]]))
        for events in self._events.values():
            events.sort()

    def at(self, user: int, at: int) -> tuple[Float64, int]:
        """log(1 + count) of each kind of event before `at`, and when the last of them happened."""
        events = self._events[user]
        before = bisect_left(events, (at, -1))
        counts = np.bincount([kind for _, kind in events[:before]], minlength=self.width)
        return np.log1p(counts.astype(np.float64)), events[before - 1][0] if before else NEVER
