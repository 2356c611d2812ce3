"""Bots: crawlers that say who they are, and scrapers that look like a browser but are far too fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamer.models.simulator.catalogue import Catalogue, Page
from streamer.models.simulator.config import SimulatorConfig
from streamer.models.simulator.draw import pick_one
from streamer.models.simulator.people import DAY_MS, USER_AGENTS
from streamer.models.simulator.walk import RawClick

BotKind = Literal["crawler", "fast"]
CRAWLER_AGENTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
    "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
)
FAST_CLICKS = (110, 170)
FAST_STEP_MS = (80, 550)
"""At most 169 steps of 550 ms: under 93 s."""


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot makes one session, under a visitor id of its own."""

    visitor_id: str
    user_agent: str
    kind: BotKind
    start_ms: int


def draw_bots(rng: np.random.Generator, people_sessions: int, config: SimulatorConfig) -> list[Bot]:
    """As many as make `bot_share` of all sessions."""
    count = round(people_sessions * config.bot_share / (1.0 - config.bot_share))
    return [_bot(rng, config) for _ in range(count)]


def _bot(rng: np.random.Generator, config: SimulatorConfig) -> Bot:
    kind: BotKind = "fast" if rng.random() < config.fast_bot_share else "crawler"
    return Bot(
        visitor_id="v-" + rng.bytes(8).hex(),
        user_agent=pick_one(rng, USER_AGENTS["desktop"] if kind == "fast" else CRAWLER_AGENTS),
        kind=kind,
        start_ms=config.start_ms + int(rng.random() * config.period_days * DAY_MS),
    )


def walk_bot(rng: np.random.Generator, bot: Bot, session: int, catalogue: Catalogue) -> list[RawClick]:
    """Crawlers fetch anything; scrapers stay within one intent's parent, after prices."""
    pages = _pages(rng, bot.kind, catalogue)
    if bot.kind == "fast":
        count, (shortest_ms, longest_ms) = int(rng.integers(*FAST_CLICKS)), FAST_STEP_MS
    else:
        count, (shortest_ms, longest_ms) = 3 + int(rng.geometric(1.0 / 12.0)), (1_000, 20_000)
    clicks, now_ms = [], bot.start_ms
    for _ in range(count):
        page = pick_one(rng, pages)
        clicks.append(RawClick(now_ms, session, "page_view", page, pick_one(rng, page.paths)))
        now_ms += int(rng.integers(shortest_ms, longest_ms))
    return clicks


def _pages(rng: np.random.Generator, kind: BotKind, catalogue: Catalogue) -> tuple[Page, ...]:
    everything = tuple(page for intent in catalogue.intents for page in intent.pages)
    if kind == "crawler":
        return everything + catalogue.site_pages
    parent = int(rng.random() * len(catalogue.parents))
    wanted = tuple(page for i in catalogue.intents if i.parent == parent for page in i.pages)
    return wanted + catalogue.parents[parent].pages
