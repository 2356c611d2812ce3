"""Which sessions people have: when, with which intents, at which stage, brought by which campaign."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamer.models.simulator.catalogue import Catalogue
from streamer.models.simulator.config import SimulatorConfig
from streamer.models.simulator.draw import Cumulative, cumulate, pick, pick_one
from streamer.models.simulator.people import DAY_MS, Visitor

HOUR_MS = 3_600_000
STAGES = ("browse", "compare", "apply")
_STAGES_BY_VISIT = tuple(
    cumulate(row) for row in ((0.58, 0.30, 0.12), (0.36, 0.40, 0.24), (0.22, 0.40, 0.38))
)
READY_FROM = 0.75
"""Visitors above this readiness are one visit ahead of the others."""
MAX_SESSIONS = 40
ACTIVE_DAYS = 14.0
"""Mean of the time over which a visitor's sessions spread."""
_HOURS = cumulate((1, 0.5, 0.3, 0.2, 0.3, 0.8, 2, 4, 6, 7, 7, 7, 8, 7, 6, 6, 6, 7, 8, 9, 10, 9, 6, 3))


@dataclass(frozen=True, slots=True)
class PlannedSession:
    """One session of a person before it is walked. `start_ms` may still move behind the previous session."""

    visitor: Visitor
    start_ms: int
    intents: tuple[int, ...]
    stage: int
    campaign: int | None
    login: bool


def plan_sessions(
    rng: np.random.Generator, visitor: Visitor, catalogue: Catalogue, config: SimulatorConfig
) -> list[PlannedSession]:
    """A visitor's sessions in order of time."""
    visits = [0] * len(catalogue.intents)
    plans = []
    for start_ms in _starts(rng, config):
        campaign = _campaign(rng, start_ms, catalogue, config)
        mix = visitor.interests_at(start_ms).mix
        first = pick(rng, mix) if campaign is None else catalogue.campaigns[campaign].intent
        intents: tuple[int, ...] = (first,)
        if rng.random() < config.second_intent_rate:
            intents = (first, _second(rng, first, mix, catalogue))
        ahead = visits[first] + (visitor.readiness > READY_FROM)
        stage = pick(rng, _STAGES_BY_VISIT[min(ahead, 2)])
        visits[first] += 1
        login = not visitor.never_login and bool(rng.random() < config.login_rate)
        plans.append(PlannedSession(visitor, start_ms, intents, stage, campaign, login))
    return plans


def _starts(rng: np.random.Generator, config: SimulatorConfig) -> list[int]:
    count = min(int(rng.geometric(1.0 / config.sessions_per_visitor)), MAX_SESSIONS)
    opening = rng.random() * config.period_days
    length = min(config.period_days - opening, 0.1 + rng.exponential(ACTIVE_DAYS))
    days = opening + length * rng.random(count)
    if config.period_days >= 1.0:
        hours = [pick(rng, _HOURS) + rng.random() for _ in range(count)]
        days = np.floor(days) + np.array(hours) / 24.0
    return [config.start_ms + int(day * DAY_MS) for day in np.sort(days)]


def campaign_start_ms(campaign: int, count: int, config: SimulatorConfig) -> int:
    """The campaigns start evenly one after the other, and run to the end."""
    late = config.drift_from + (1.0 - config.drift_from) * campaign / count
    return config.start_ms + int(late * config.period_days * DAY_MS)


def _campaign(
    rng: np.random.Generator, start_ms: int, catalogue: Catalogue, config: SimulatorConfig
) -> int | None:
    count = len(catalogue.campaigns)
    running = [c for c in range(count) if start_ms >= campaign_start_ms(c, count, config)]
    if not running or rng.random() >= config.drift:
        return None
    return pick_one(rng, running)


def _second(rng: np.random.Generator, first: int, mix: Cumulative, catalogue: Catalogue) -> int:
    """Half the time something close to the first intent, else any of the visitor's."""
    near = catalogue.siblings(first) + catalogue.intents[first].related
    if rng.random() >= 0.5:
        other = pick(rng, mix)
        if other != first:
            return other
    return pick_one(rng, near)
