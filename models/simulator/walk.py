"""The site's pages, and one person's walk through them: where it starts, what is viewed, clicked, searched.

Times rise strictly within a session, and no pause reaches MAX_DWELL_MS + 2 s, well below any gap that would
cut the session. A click refers to its page; nothing in it names an intent.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import msgspec
import numpy as np

from streamer.models.simulator.catalogue import Catalogue, Page
from streamer.models.simulator.config import SimulatorConfig
from streamer.models.simulator.draw import Cumulative, cumulate, pick, pick_one
from streamer.models.simulator.plan import STAGES, PlannedSession

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

_TERM_SOURCES = cumulate((0.55, 0.3, 0.15))
"""Of a query: the intent, its parent, anybody."""
_TERMS = cumulate((0.6, 0.3, 0.1))
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
MAX_DWELL_MS = 15 * 60_000
DWELL_UNKNOWN = 0.08
"""Share of clicks before the last without a dwell time. The last of a session never has one."""
# Rows are the stages: browse, compare, apply. Columns: the intent's own pages, pages that its siblings share,
# pages of a sibling or related intent, pages of the site. Own pages are a minority: a session of one or two
# clicks often can't be classified, as on real sites.
_SOURCES = tuple(
    cumulate(row) for row in ((0.42, 0.26, 0.10, 0.22), (0.46, 0.26, 0.10, 0.18), (0.56, 0.16, 0.06, 0.22))
)
_PATH_WEIGHTS = (0.65, 0.25, 0.1)
_OUTSIDER_PATH_WEIGHTS = (0.2, 0.4, 0.4)
_DWELL_MEDIAN_MS = {"home": 7_000, "login": 9_000, "search": 6_000, "guide": 48_000, "application": 65_000}
_DWELL_MEDIAN_OTHERS_MS = 22_000
_RELEVANT, _IRRELEVANT = 1.3, 0.6
_ELEMENTS = {
    "calculator": ("calculate", "amount-slider", "term-slider"),
    "compare": ("filter", "sort", "show-more"),
    "faq": ("accordion",),
    "rates": ("tab-terms", "download-pdf"),
    "application": ("next-step", "upload-document", "back"),
    "locator": ("map", "use-my-location"),
    "product": ("cta-apply", "accordion", "call-me-back"),
    "account": ("details", "filter"),
}
_ELEMENT_RATE = 0.3
_ENTRIES = cumulate((0.42, 0.33, 0.1, 0.05, 0.1))
_REFERRERS: tuple[tuple[str | None, ...], ...] = (
    (None,),
    ("https://www.google.com/", "https://www.bing.com/", "https://duckduckgo.com/"),
    ("https://compare-money.example/", "https://bestrates.example/"),
    ("https://www.instagram.com/", "https://www.youtube.com/"),
    ("https://mail.northbank.example/newsletter",),
)
# Rows are the entries above. Columns: own pages, pages shared by siblings, home page, any page at all.
_ENTRY_PAGES = tuple(
    cumulate(row)
    for row in (
        (0.12, 0.13, 0.70, 0.05),
        (0.50, 0.27, 0.18, 0.05),
        (0.50, 0.40, 0.05, 0.05),
        (0.30, 0.20, 0.20, 0.30),
        (0.25, 0.25, 0.20, 0.30),
    )
)
_PATHS = {n: (cumulate(_PATH_WEIGHTS[:n]), cumulate(_OUTSIDER_PATH_WEIGHTS[:n])) for n in (1, 2, 3)}


class PageDistribution:
    """Pages with the probability of each, by stage, for customers and for outsiders."""

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


def draw_query(rng: np.random.Generator, catalogue: Catalogue, intent: int, misspelling_rate: float) -> str:
    """One to three terms: of the intent, of its parent (shared with its siblings), or of anybody."""
    chosen = catalogue.intents[intent]
    sources = (chosen.words, catalogue.parents[chosen.parent].words, catalogue.site_words)
    terms = [pick_one(rng, sources[pick(rng, _TERM_SOURCES)]) for _ in range(1 + pick(rng, _TERMS))]
    query = " ".join(dict.fromkeys(terms))
    return misspell(rng, query) if rng.random() < misspelling_rate else query


def misspell(rng: np.random.Generator, query: str) -> str:
    """One letter lost, doubled, exchanged with its neighbour, or replaced by another. Never the same text."""
    at = int(rng.random() * (len(query) - 1))
    before, letter, following, after = query[:at], query[at], query[at + 1], query[at + 2 :]
    kind = int(rng.random() * 4)
    if kind == 0 and letter != following:
        return before + following + letter + after
    if kind == 1:
        return before + letter + letter + following + after
    if kind == 2:
        return before + following + after
    other = pick_one(rng, _LETTERS.replace(letter, ""))
    return before + other + following + after


class RawClick(msgspec.Struct, gc=False):
    """A click before it becomes a record. `session` is the session's number, which leads to the visitor."""

    timestamp: int
    session: int
    event_type: str
    page: Page
    path: str
    logged_in: bool = False
    search_query: str | None = None
    element: str | None = None
    referrer: str | None = None
    dwell_ms: int | None = None


class Walk:
    """One session while it is walked."""

    def __init__(
        self,
        rng: np.random.Generator,
        site: Site,
        plan: PlannedSession,
        session: int,
        start_ms: int,
        config: SimulatorConfig,
    ) -> None:
        self.rng, self.site, self.plan, self.config = rng, site, plan, config
        self.session, self.now_ms = session, start_ms
        self.length = min(int(rng.geometric(1.0 / config.clicks_per_session)), config.max_clicks)
        self.turn = self._turn()
        self.login_at = int(rng.random() * 0.6 * self.length) if plan.login else -1
        self.logged_in = False
        self.form_open = False
        self.clicks: list[RawClick] = []

    def run(self) -> list[RawClick]:
        for step in range(self.length):
            intent = self._intent(step)
            if step == self.login_at:
                self._login()
            elif step == 0:
                self._enter(intent)
            elif self.rng.random() < self.config.search_rate:
                self._search(intent)
            else:
                self._look(intent)
        self.clicks[-1].dwell_ms = None
        return self.clicks

    def _turn(self) -> int:
        """The step from which on the session follows its second intent."""
        if len(self.plan.intents) == 1:
            return self.length
        return ceil(self.length * (0.35 + 0.45 * self.rng.random()))

    def _intent(self, step: int) -> int:
        if step < self.turn or self.rng.random() < 0.15:
            return self.plan.intents[0]
        return self.plan.intents[1]

    def _login(self) -> None:
        self.logged_in = True
        self._add("login", self.site.login, relevance=1.0, element="submit")

    def _enter(self, intent: int) -> None:
        if self.plan.campaign is not None:
            referrer = pick_one(self.rng, (*_REFERRERS[3], *_REFERRERS[4]))
            page = self.site.catalogue.campaigns[self.plan.campaign].page
            self._add("page_view", page, relevance=_RELEVANT, referrer=referrer)
            return
        entry = pick(self.rng, _ENTRIES)
        kind = pick(self.rng, _ENTRY_PAGES[entry])
        if kind == 2:
            page, relevance = self.site.home, 1.0
        elif kind == 3:
            page, relevance = self._any_page(), _IRRELEVANT
        else:
            page, relevance = self._page(kind, intent)
        self._add("page_view", page, relevance, referrer=pick_one(self.rng, _REFERRERS[entry]))

    def _search(self, intent: int) -> None:
        query = self._query(intent)
        self._add("search", self.site.search, relevance=1.0, search_query=query)

    def _query(self, intent: int) -> str:
        campaign = self.plan.campaign
        if campaign is not None and self.rng.random() < 0.3:
            return pick_one(self.rng, self.site.catalogue.campaigns[campaign].words)
        return draw_query(self.rng, self.site.catalogue, intent, self.config.misspelling_rate)

    def _look(self, intent: int) -> None:
        if self.rng.random() < self.config.page_noise:
            self._add("page_view", self._any_page(), _IRRELEVANT)
            return
        page, relevance = self._page(pick(self.rng, _SOURCES[self.plan.stage]), intent)
        event_type, element = self._event(page)
        self._add(event_type, page, relevance, element=element)

    def _page(self, source: int, intent: int) -> tuple[Page, float]:
        """Sources are the columns of _SOURCES."""
        rng, site, stage = self.rng, self.site, self.plan.stage
        if source == 0:
            campaign = self.plan.campaign
            drifted = campaign is not None and intent == site.catalogue.campaigns[campaign].intent
            pages = site.campaigns[campaign] if drifted and campaign is not None else site.own[intent]
            return pages.draw(rng, stage, self._outsider()), _RELEVANT
        if source == 1:
            parent = site.catalogue.intents[intent].parent
            return site.shared[parent].draw(rng, stage, self._outsider()), 1.0
        if source == 2:
            return site.own[pick_one(rng, site.near[intent])].draw(rng, stage, self._outsider()), 1.0
        if self.logged_in and rng.random() < 0.6:
            return pick_one(rng, site.catalogue.account_pages), 1.0
        return site.common[pick(rng, site.common_weights)], _IRRELEVANT

    def _any_page(self) -> Page:
        return pick_one(self.rng, pick_one(self.rng, self.site.own).pages)

    def _outsider(self) -> bool:
        """Whether a never-login visitor acts as such, with the probability of the concept shift."""
        return self.plan.visitor.never_login and bool(self.rng.random() < self.config.concept_shift)

    def _event(self, page: Page) -> tuple[str, str | None]:
        if page.kind == "application":
            return self._form_event()
        elements = _ELEMENTS.get(page.kind)
        if elements is not None and self.rng.random() < _ELEMENT_RATE:
            return "click", pick_one(self.rng, elements)
        return "page_view", None

    def _form_event(self) -> tuple[str, str | None]:
        chance = self.rng.random()
        if not self.form_open:
            self.form_open = bool(chance < 0.7)
            return ("form_start", "form") if self.form_open else ("page_view", None)
        if chance < 0.35:
            self.form_open = False
            return "form_submit", "submit"
        return "click", pick_one(self.rng, _ELEMENTS["application"])

    def _add(
        self,
        event_type: str,
        page: Page,
        relevance: float,
        *,
        search_query: str | None = None,
        element: str | None = None,
        referrer: str | None = None,
    ) -> None:
        rng = self.rng
        path = page.paths[pick(rng, _PATHS[len(page.paths)][self._outsider()])]
        median_ms = _DWELL_MEDIAN_MS.get(page.kind, _DWELL_MEDIAN_OTHERS_MS) * relevance
        dwell_ms = int(min(max(median_ms * float(np.exp(0.8 * rng.standard_normal())), 700), MAX_DWELL_MS))
        self.clicks.append(
            RawClick(
                timestamp=self.now_ms,
                session=self.session,
                event_type=event_type,
                page=page,
                path=path,
                logged_in=self.logged_in,
                search_query=search_query,
                element=element,
                referrer=referrer,
                dwell_ms=None if rng.random() < DWELL_UNKNOWN else dwell_ms,
            )
        )
        self.now_ms += dwell_ms + 200 + int(1_000 * rng.random())
