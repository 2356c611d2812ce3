"""The catalogue arranged for walking: which pages there are to go to, and how likely each is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.simulator.catalogue import Catalogue, Page
from models.simulator.draw import Cumulative, cumulate, pick
from models.simulator.plan import STAGES

# By stage: browse, compare, apply.
_KIND_WEIGHTS = {
    "guide": (3.0, 1.0, 0.3),
    "product": (3.0, 3.0, 1.5),
    "landing": (4.0, 2.0, 1.0),
    "rates": (1.0, 3.0, 1.0),
    "faq": (1.5, 1.0, 1.0),
    "application": (0.05, 0.3, 4.0),
    "overview": (3.0, 1.0, 0.3),
    "calculator": (1.0, 3.0, 1.0),
    "compare": (1.0, 4.0, 0.5),
}
_OUTSIDER_KINDS = {"guide": 3.0, "landing": 2.0, "application": 0.5}
_SITE_WEIGHTS = {
    "home": 3.0,
    "locator": 1.0,
    "login": 0.5,
    "help": 1.0,
    "news": 0.5,
    "about": 0.4,
    "app": 0.6,
}
_SITE_OTHERS = 0.7


class PageDistribution:
    """Pages with the chance of each, by stage, for customers and for outsiders."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self.pages = tuple(pages)
        self._usual = tuple(self._weights(stage, {}) for stage in range(len(STAGES)))
        self._outsider = tuple(self._weights(stage, _OUTSIDER_KINDS) for stage in range(len(STAGES)))

    def draw(self, rng: np.random.Generator, stage: int, outsider: bool) -> Page:
        return self.pages[pick(rng, (self._outsider if outsider else self._usual)[stage])]

    def _weights(self, stage: int, factors: dict[str, float]) -> Cumulative:
        return cumulate(_KIND_WEIGHTS[page.kind][stage] * factors.get(page.kind, 1.0) for page in self.pages)


class Site:
    """The catalogue, arranged for walking."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.own = tuple(PageDistribution(intent.pages) for intent in catalogue.intents)
        self.campaigns = tuple(
            PageDistribution((*catalogue.intents[c.intent].pages, c.page)) for c in catalogue.campaigns
        )
        self.shared = tuple(PageDistribution(parent.pages) for parent in catalogue.parents)
        self.near = tuple(
            catalogue.siblings(i) + intent.related for i, intent in enumerate(catalogue.intents)
        )
        by_kind = {page.kind: page for page in catalogue.site_pages}
        self.home, self.search, self.login = by_kind["home"], by_kind["search"], by_kind["login"]
        self.common = tuple(page for page in catalogue.site_pages if page is not self.search)
        self.common_weights = cumulate(_SITE_WEIGHTS.get(page.kind, _SITE_OTHERS) for page in self.common)
