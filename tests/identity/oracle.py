"""Whose session it is and what a user's record says, by the rules; imports nothing of the product."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

DAY = 86_400_000


class Said(NamedTuple):
    """A record of the links topic."""

    at: int
    visitor: str
    user: str
    is_link: bool
    confidence: float = 1.0


class Limits(NamedTuple):
    lookback: int = 30 * DAY
    max_visitors: int = 50
    history: int = 90 * DAY
    half_life: int = 7 * DAY


Session = dict[str, Any]
Attribution = tuple[str, str, float]
"""User, `login` or `link`, confidence."""


def whose(session: Session, sessions: Iterable[Session], links: Iterable[Said], limits: Limits) -> Any:
    """An Attribution, or the reason why it is nobody's."""
    visitor, closed = session["visitor_id"], session["closed_at"]
    if session["is_bot"]:
        return "bot"
    unlinks: dict[str, int] = {}
    for said in links:
        if said.visitor == visitor and not said.is_link:
            unlinks[said.user] = max(said.at, unlinks.get(said.user, said.at))
    user = session["user_id"]
    if user is not None:
        return "unlinked" if closed <= unlinks.get(user, -1) else (user, "login", 1.0)
    ties = [
        (said.at, said.user, said.confidence) for said in links if said.visitor == visitor and said.is_link
    ]
    ties += [
        (each["closed_at"], each["user_id"], 1.0)
        for each in sessions
        if each["visitor_id"] == visitor and each["user_id"] is not None and not each["is_bot"]
    ]
    in_reach = [(at, user, sure) for at, user, sure in ties if abs(at - closed) <= limits.lookback]
    named = {
        user: sure
        for at, user, sure in sorted(in_reach, key=lambda tie: tie[2])
        if at > unlinks.get(user, -1)
    }
    if len(named) > 1:
        return "ambiguous"
    if not named:
        return "anonymous"
    ((user, sure),) = named.items()
    return user, "link", sure


def records(
    sessions: list[Session], links: list[Said], limits: Limits, revised: Iterable[Session] = ()
) -> dict[str, dict[str, Any]]:
    """The latest record of every user who has one, without the fields that are the latest session's own.

    `revised`: records that others took the place of. They tie, as they did, and are nobody's.
    """
    of_users: dict[str, list[tuple[Session, str, float]]] = {}
    for session in sessions:
        found = whose(session, [*sessions, *revised], links, limits)
        if not isinstance(found, str):
            of_users.setdefault(found[0], []).append((session, *found[1:]))
    return {user: record(theirs, limits) for user, theirs in of_users.items() if record(theirs, limits)}


def record(theirs: list[tuple[Session, str, float]], limits: Limits) -> dict[str, Any]:
    counting = _newest(theirs, limits)
    if len({session["visitor_id"] for session, _, _ in counting}) > limits.max_visitors:
        counting = _newest([each for each in counting if each[1] == "login"], limits)
    if not counting:
        return {}
    latest = counting[0][0]

    def mean(values: list[tuple[float, float]]) -> float | None:
        total = math.fsum(weight for weight, _ in values)
        return math.fsum(weight * value for weight, value in values) / total if total else None

    def weight(session: Session, confidence: float) -> float:
        return float(confidence * 0.5 ** ((latest["closed_at"] - session["closed_at"]) / limits.half_life))

    same_taxonomy = [
        (session, weight(session, confidence))
        for session, _, confidence in counting
        if session["taxonomy_version"] == latest["taxonomy_version"]
    ]
    same_space = [
        (session, weight(session, confidence))
        for session, _, confidence in counting
        if session["embedding_space"] == latest["embedding_space"]
    ]
    intents = {intent["intent_id"] for session, _ in same_taxonomy for intent in session["intents"]}
    profile = {
        intent_id: mean(
            [
                (
                    each,
                    sum(i["probability"] for i in session["intents"] if i["intent_id"] == intent_id),
                )
                for session, each in same_taxonomy
            ]
        )
        for intent_id in intents
    }
    return {
        "session_id": latest["session_id"],
        "attribution": counting[0][1],
        "confidence": counting[0][2],
        "history": [session["session_id"] for session, _, _ in counting[:16]],
        "profile": {} if None in profile.values() else profile,
        "profile_embedding": [
            mean([(each, session["embedding"][axis]) for session, each in same_space])
            for axis in range(len(latest["embedding"]))
            if sum(each for _, each in same_space)
        ],
        "sessions": len(counting),
        "visitors": len({session["visitor_id"] for session, _, _ in counting}),
    }


def _newest(theirs: list[tuple[Session, str, float]], limits: Limits) -> list[tuple[Session, str, float]]:
    def age(each: tuple[Session, str, float]) -> tuple[Any, ...]:
        return each[0]["closed_at"], each[0]["started_at"], each[0]["session_id"]

    theirs = sorted(theirs, key=age, reverse=True)
    return [each for each in theirs if each[0]["closed_at"] > theirs[0][0]["closed_at"] - limits.history][:64]
