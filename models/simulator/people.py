"""Visitors and what lasts about them: interests, age, what they hold, devices, whether they ever log in."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace

import numpy as np

from streamer.models.arrays import Float64
from streamer.models.simulator.catalogue import Catalogue
from streamer.models.simulator.config import SimulatorConfig
from streamer.models.simulator.draw import Cumulative, cumulate, pick, pick_one

AGE_FACTOR = 4.0
"""How much more common an intent is within its years of age."""
DAY_MS = 86_400_000
LASTING_SHARE = 0.65
"""Probability that a session follows one of the visitor's lasting interests."""
INTEREST_WEIGHTS = ((1.0,), (0.7, 0.3), (0.55, 0.3, 0.15))
POPULARITY_ROLL = 7
"""Never-login visitors lean towards the popularity of the intent this many places further on."""

_DEVICES = ("desktop", "mobile", "tablet")
_DEVICE_SHARES = cumulate((0.44, 0.5, 0.06))
_CHROME = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 {}Safari/537.36"
USER_AGENTS = {
    "desktop": (
        _CHROME.format("Windows NT 10.0; Win64; x64", ""),
        _CHROME.format("Macintosh; Intel Mac OS X 10_15_7", ""),
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:123.0) Gecko/20100101 Firefox/123.0",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_3) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/17.3 Safari/605.1.15",
    ),
    "mobile": (
        _CHROME.format("Linux; Android 14; Pixel 8", "Mobile "),
        _CHROME.format("Linux; Android 13; SM-S911B", "Mobile "),
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/17.3 Mobile/15E148 Safari/604.1",
    ),
    "tablet": (
        "Mozilla/5.0 (iPad; CPU OS 17_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
        "Version/17.3 Mobile/15E148 Safari/604.1",
    ),
}


@dataclass(frozen=True, slots=True)
class Interests:
    since_ms: int
    ranked: tuple[int, ...]
    """One to three intents, the strongest first."""
    mix: Cumulative
    """Of intents over the sessions of that time."""


@dataclass(frozen=True, slots=True)
class Visitor:
    visitor_id: str
    user_id: str
    """Known on the web from a login on; the app always knows it."""
    device: str
    user_agent: str
    never_login: bool
    has_app: bool
    consent: bool
    age: int
    tenure_months: int
    readiness: float
    """0..1, how soon this person goes from looking to applying."""
    interests: tuple[Interests, ...]
    """In order of time; the first are those at the start of the period."""
    holdings: frozenset[int]
    """Products held when the period starts."""

    def interests_at(self, time_ms: int) -> Interests:
        began = bisect_right(self.interests, time_ms, key=lambda each: each.since_ms)
        return self.interests[max(began - 1, 0)]


def draw_visitors(rng: np.random.Generator, catalogue: Catalogue, config: SimulatorConfig) -> list[Visitor]:
    return [_visitor(rng, catalogue, config) for _ in range(config.visitors)]


def with_later_interests(
    rng: np.random.Generator, visitor: Visitor, catalogue: Catalogue, config: SimulatorConfig
) -> Visitor:
    """The same person; their interests are replaced after `interest_days` on average, again and again."""
    if not config.interest_days:
        return visitor
    fitting = _fitting(catalogue, config, visitor.age, visitor.never_login)
    interests = list(visitor.interests)
    days = float(rng.exponential(config.interest_days))
    while days < config.period_days:
        interests.append(_interests(rng, catalogue, fitting, config.start_ms + int(days * DAY_MS)))
        days += float(rng.exponential(config.interest_days))
    return replace(visitor, interests=tuple(interests))


def _visitor(rng: np.random.Generator, catalogue: Catalogue, config: SimulatorConfig) -> Visitor:
    age = int(np.clip(rng.normal(42.0, 15.0), 18, 85))
    tenure_months = int(min(rng.exponential(60.0), (age - 17) * 12))
    never_login = bool(rng.random() < config.never_login_share)
    interests = _interests(rng, catalogue, _fitting(catalogue, config, age, never_login), config.start_ms)
    device = _DEVICES[pick(rng, _DEVICE_SHARES)]
    return Visitor(
        visitor_id="v-" + rng.bytes(8).hex(),
        user_id="u-" + rng.bytes(6).hex(),
        device=device,
        user_agent=pick_one(rng, USER_AGENTS[device]),
        never_login=never_login,
        has_app=bool(rng.random() < config.app_share),
        consent=bool(rng.random() >= config.no_consent_share),
        age=age,
        tenure_months=tenure_months,
        readiness=float(rng.random()),
        interests=(interests,),
        holdings=_holdings(rng, catalogue, age, tenure_months),
    )


def _fitting(catalogue: Catalogue, config: SimulatorConfig, age: int, never_login: bool) -> Float64:
    """[I]: how common each intent is among people like that."""
    popularity = np.array([intent.popularity for intent in catalogue.intents])
    if never_login:
        shift = config.concept_shift
        popularity = (1.0 - shift) * popularity + shift * np.roll(popularity, POPULARITY_ROLL)
    fitting: Float64 = popularity * _age_factors(catalogue, age)
    return fitting


def _age_factors(catalogue: Catalogue, age: int) -> Float64:
    inside = [intent.ages[0] <= age <= intent.ages[1] for intent in catalogue.intents]
    return np.where(inside, AGE_FACTOR, 1.0)


def _interests(rng: np.random.Generator, catalogue: Catalogue, fitting: Float64, since_ms: int) -> Interests:
    """Half of the further interests are close to the first: a sibling, or sold together with it."""
    everything = cumulate(fitting)
    first = pick(rng, everything)
    chosen = [first]
    near = catalogue.siblings(first) + catalogue.intents[first].related
    for _ in range(int(rng.random() * 3)):
        other = pick_one(rng, near) if rng.random() < 0.5 else pick(rng, everything)
        if other not in chosen:
            chosen.append(other)
    return Interests(since_ms, tuple(chosen), _mix(fitting, tuple(chosen)))


def _mix(fitting: Float64, interests: tuple[int, ...]) -> Cumulative:
    mix = (1.0 - LASTING_SHARE) * fitting / fitting.sum()
    for intent, weight in zip(interests, INTEREST_WEIGHTS[len(interests) - 1], strict=True):
        mix[intent] += LASTING_SHARE * weight
    return cumulate(mix)


def _holdings(rng: np.random.Generator, catalogue: Catalogue, age: int, tenure_months: int) -> frozenset[int]:
    """A product is likelier held with popularity, with the years as a customer, and from its usual age on."""
    years = min(tenure_months / 12.0, 15.0)
    held = set()
    for intent in catalogue.intents:
        if intent.product is None:
            continue
        old_enough = 1.0 if age >= intent.ages[0] else 0.2
        if rng.random() < min(0.6, (0.02 + 0.02 * years) * intent.popularity * old_enough):
            held.add(intent.product)
    return frozenset(held)
