"""What happens in the bank's app: visits with tiles shown and clicked, products bought, links to the web.

Rules: an app visit reacts to the last web session that ended before it, less and less with time. Each slot of
the home screen is logged with the probability that its tile had, given the slots before it. Links may be
missing or wrong; the truth about who is who is kept apart.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamer.models.arrays import Float64
from streamer.models.simulator.catalogue import Catalogue
from streamer.models.simulator.config import SimulatorConfig
from streamer.models.simulator.draw import cumulate, pick
from streamer.models.simulator.people import DAY_MS, Visitor

READY_BY_STAGE = (0.06, 0.22, 0.5)
"""Probability that a session of this stage leads to its intent's product, for a visitor of medium
readiness."""
BASE_RATE = 0.002
"""Probability of an unpredictable purchase, per session and product of popularity 1."""
REBUY = 0.15
"""Factor on the probability when the product is held already."""
SECOND = 0.6
"""Weight of a session's second intent."""
SIGNAL_DAYS = 4.0
"""An intent's effect on the app falls by the factor e in this time."""
RETURN_DAYS = 1.2
PURCHASE_DAYS = 4.0
BACKGROUND_VISITS = 1.0
"""Mean number of an app user's visits that no web session brought."""
INTENT_UTILITY = 3.0
INTEREST_UTILITY = 0.9
HELD_UTILITY = -1.2
SLOT_UTILITY = -0.12
NO_CLICK_UTILITY = 2.6


@dataclass(frozen=True, slots=True)
class WebSession:
    """The latent side of a finished web session."""

    ended_ms: int
    intents: tuple[int, ...]
    stage: int


@dataclass(frozen=True, slots=True)
class Impression:
    time_ms: int
    tiles: tuple[int, ...]
    """In order of the slots."""
    propensities: tuple[float, ...]
    """Of each tile for its slot, given the tiles of the slots before."""
    clicked: int | None


@dataclass(frozen=True, slots=True)
class Conversion:
    time_ms: int
    product: int


class AppSimulation:
    """Tables over I intents, T tiles and P products that all app users share."""

    def __init__(self, catalogue: Catalogue, config: SimulatorConfig) -> None:
        self.config = config
        self.tile_affinity = catalogue.tile_affinity()
        self.product_affinity = catalogue.product_affinity()
        popularity = np.array([intent.popularity for intent in catalogue.intents])
        generic = len(catalogue.tiles) - len(popularity)
        self.tile_popularity = np.log(np.concatenate([popularity, np.full(generic, 0.8)]))
        self.product_popularity = np.array([i.popularity for i in catalogue.intents if i.product is not None])
        self.tile_of_product = [i.tile for i in catalogue.intents if i.product is not None]

    def conversions(
        self, rng: np.random.Generator, visitor: Visitor, sessions: Sequence[WebSession]
    ) -> list[Conversion]:
        """A product is bought at most once. In order of time."""
        bought: dict[int, int] = {}
        for session in sessions:
            chances = self._purchase_chances(visitor, session)
            draws = rng.random(len(chances))
            for product in np.flatnonzero(draws < chances).tolist():
                delay_ms = 600_000 + int(rng.exponential(PURCHASE_DAYS) * DAY_MS)
                if product not in bought:
                    bought[product] = session.ended_ms + delay_ms
        return sorted((Conversion(time_ms, p) for p, time_ms in bought.items()), key=lambda c: c.time_ms)

    def _purchase_chances(self, visitor: Visitor, session: WebSession) -> Float64:
        """[P]. Signal strength s turns a probability p into 1 - (1 - p)^s: 0 at 0, p at 1."""
        affinity = self._session_affinity(self.product_affinity, session)
        ready = READY_BY_STAGE[session.stage] * (0.6 + 0.8 * visitor.readiness)
        caused = 1.0 - (1.0 - np.minimum(ready * affinity, 0.95)) ** self._strength(visitor)
        interest = visitor.interests_at(session.ended_ms).ranked[0]
        base = BASE_RATE * self.product_popularity * (1.0 + 8.0 * self.product_affinity[interest])
        chances: Float64 = 1.0 - (1.0 - caused) * (1.0 - base)
        chances[list(visitor.holdings)] *= REBUY
        return chances

    def _session_affinity(self, table: Float64, session: WebSession) -> Float64:
        affinity: Float64 = table[session.intents[0]]
        if len(session.intents) > 1:
            affinity = np.maximum(affinity, SECOND * table[session.intents[1]])
        return affinity

    def _strength(self, visitor: Visitor) -> float:
        weaker = 0.5 * self.config.concept_shift if visitor.never_login else 0.0
        return self.config.signal_strength * (1.0 - weaker)

    def impressions(
        self,
        rng: np.random.Generator,
        visitor: Visitor,
        sessions: Sequence[WebSession],
        conversions: Sequence[Conversion],
    ) -> list[Impression]:
        """In order of time."""
        ends_ms = [session.ended_ms for session in sessions]
        impressions = []
        for time_ms in self._visit_times(rng, ends_ms):
            held = set(visitor.holdings) | {c.product for c in conversions if c.time_ms <= time_ms}
            last = bisect_right(ends_ms, time_ms - 1) - 1
            utility = self._utility(visitor, sessions[last] if last >= 0 else None, time_ms)
            impressions.append(self._impression(rng, time_ms, utility, held))
        return impressions

    def _visit_times(self, rng: np.random.Generator, ends_ms: Sequence[int]) -> list[int]:
        times = []
        for end_ms in ends_ms:
            if rng.random() < self.config.app_return_rate:
                times.append(end_ms + 600_000 + int(rng.exponential(RETURN_DAYS) * DAY_MS))
        for _ in range(int(rng.poisson(BACKGROUND_VISITS))):
            times.append(self.config.start_ms + int(rng.random() * self.config.period_days * DAY_MS))
        return sorted(times)

    def _utility(self, visitor: Visitor, session: WebSession | None, time_ms: int) -> Float64:
        """[T]"""
        interest = visitor.interests_at(time_ms).ranked[0]
        utility: Float64 = self.tile_popularity + INTEREST_UTILITY * self.tile_affinity[interest]
        if session is None:
            return utility
        fading = np.exp(-(time_ms - session.ended_ms) / (SIGNAL_DAYS * DAY_MS))
        strength = self._strength(visitor) * fading * (0.75 + 0.15 * session.stage)
        utility += INTENT_UTILITY * strength * self._session_affinity(self.tile_affinity, session)
        return utility

    def _impression(
        self, rng: np.random.Generator, time_ms: int, utility: Float64, held: set[int]
    ) -> Impression:
        held_tiles = [self.tile_of_product[product] for product in sorted(held)]
        policy = self.tile_popularity.copy()
        policy[held_tiles] -= 1.0
        tiles, propensities = draw_slate(
            rng, np.exp(policy), self.config.tiles_shown, self.config.exploration
        )
        attraction = utility.copy()
        attraction[held_tiles] += HELD_UTILITY
        shown = attraction[list(tiles)] + SLOT_UTILITY * np.arange(len(tiles))
        choice = pick(rng, cumulate([*np.exp(shown), np.exp(NO_CLICK_UTILITY)]))
        return Impression(time_ms, tiles, propensities, tiles[choice] if choice < len(tiles) else None)


def slot_probabilities(weights: Float64, exploration: float) -> Float64:
    """[T], sums to 1: uniform over what is left (weight > 0) with probability `exploration`, else by
    weight."""
    left = weights > 0.0
    mixed: Float64 = left * (exploration / left.sum()) + weights * ((1.0 - exploration) / weights.sum())
    return mixed


def draw_slate(
    rng: np.random.Generator, weights: Float64, slots: int, exploration: float
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Tiles slot by slot without repetition, and the probability each had for its slot."""
    left = weights.copy()
    tiles: list[int] = []
    propensities: list[float] = []
    for draw in rng.random(min(slots, len(weights))).tolist():
        probabilities = slot_probabilities(left, exploration)
        sums = probabilities.cumsum()
        tile = int((sums / sums[-1]).searchsorted(draw, side="right"))
        tiles.append(tile)
        propensities.append(float(probabilities[tile]))
        left[tile] = 0.0
    return tuple(tiles), tuple(propensities)


def draw_links(
    rng: np.random.Generator, visitors: Sequence[Visitor], config: SimulatorConfig
) -> list[str | None]:
    """For each visitor the visitor id that the bank takes for theirs; some are missing or wrong."""
    links: list[str | None] = []
    for index, visitor in enumerate(visitors):
        chance = rng.random()
        if chance < config.missing_link_rate:
            links.append(None)
        elif chance < config.missing_link_rate + config.wrong_link_rate:
            other = (index + 1 + int(rng.random() * (len(visitors) - 1))) % len(visitors)
            links.append(visitors[other].visitor_id)
        else:
            links.append(visitor.visitor_id)
    return links
