"""The whole simulation, and its tables as plain records.

Rules: one seeded generator is split into one for people, web, bots, event ids, app and later interests, so
that a setting of the app leaves the clicks as they are. Latent things are in `sessions()` and `visitors()`
alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote_plus

import numpy as np

from streamer.models.simulator.app import AppSimulation, Conversion, Impression, WebSession, draw_links
from streamer.models.simulator.bots import Bot, draw_bots, walk_bot
from streamer.models.simulator.catalogue import Catalogue, load_catalogue
from streamer.models.simulator.config import SimulatorConfig
from streamer.models.simulator.people import Visitor, draw_visitors, with_later_interests
from streamer.models.simulator.plan import STAGES, PlannedSession, plan_sessions
from streamer.models.simulator.walk import RawClick, Site, Walk

Record = dict[str, Any]

BETWEEN_SESSIONS_MS = 40 * 60_000
"""The least pause between two sessions of a visitor; within one no pause is over 15 minutes and 2 seconds."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What is true of a walked session; bounds inclusive."""

    of: PlannedSession | Bot
    started_ms: int
    ended_ms: int
    clicks: int


@dataclass(frozen=True, slots=True)
class AppUser:
    visitor: Visitor
    linked_visitor_id: str | None
    impressions: list[Impression]
    conversions: list[Conversion]


@dataclass(frozen=True, slots=True)
class Simulated:
    config: SimulatorConfig
    catalogue: Catalogue
    people: list[Visitor]
    outlines: list[Outline]
    raw_clicks: list[RawClick]
    """In order of time, over all visitors."""
    event_ids: bytes
    """16 bytes a click."""
    app_users: list[AppUser]

    def clicks(self) -> Iterator[Record]:
        """As the click contract has them, in order of time; fields that are null are left out."""
        for index, raw in enumerate(self.raw_clicks):
            yield self._click(raw, _uuid(self.event_ids[16 * index : 16 * index + 16]))

    def _click(self, raw: RawClick, event_id: str) -> Record:
        source = self.outlines[raw.session].of
        person = source.visitor if isinstance(source, PlannedSession) else None
        query = "" if raw.search_query is None else "?q=" + quote_plus(raw.search_query)
        fields: Record = {
            "visitor_id": source.visitor_id if isinstance(source, Bot) else source.visitor.visitor_id,
            "timestamp": raw.timestamp,
            "event_type": raw.event_type,
            "event_id": event_id,
            "page_type": raw.page.kind,
            "page_url": f"https://{self.catalogue.host}{raw.path}{query}",
            "page_title": raw.page.title,
            "search_query": raw.search_query,
            "element": raw.element,
            "referrer": raw.referrer,
            "dwell_ms": raw.dwell_ms,
            "product_id": raw.page.product_id,
            "device": person.device if person else None,
            "user_agent": source.user_agent if isinstance(source, Bot) else source.visitor.user_agent,
            "user_id": person.user_id if person and raw.logged_in else None,
            "consent": person.consent if person else None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def sessions(self) -> Iterator[Record]:
        """The truth of each session, in order of (start, visitor id)."""
        records = [self._session(outline) for outline in self.outlines]
        yield from sorted(records, key=lambda record: (record["start"], record["visitor_id"]))

    def _session(self, outline: Outline) -> Record:
        source = outline.of
        times = {"start": outline.started_ms, "end": outline.ended_ms, "clicks": outline.clicks}
        if isinstance(source, Bot):
            unknown: Record = {"intents": [], "parents": [], "stage": None, "campaign": None}
            return {"visitor_id": source.visitor_id, **times, **unknown, "bot": source.kind}
        intents = [self.catalogue.intents[index] for index in source.intents]
        return {
            "visitor_id": source.visitor.visitor_id,
            **times,
            "intents": [intent.name for intent in intents],
            "parents": [self.catalogue.parents[intent.parent].name for intent in intents],
            "stage": STAGES[source.stage],
            "campaign": source.campaign,
            "bot": None,
        }

    def visitors(self) -> Iterator[Record]:
        """The truth of each person, with the user id that really is theirs."""
        for person in self.people:
            yield {
                "visitor_id": person.visitor_id,
                "user_id": person.user_id,
                "never_login": person.never_login,
                "has_app": person.has_app,
                "consent": person.consent,
                "readiness": person.readiness,
                "interests": [self.catalogue.intents[index].name for index in person.interests[0].ranked],
                "holdings": [self.catalogue.products[index] for index in sorted(person.holdings)],
            }

    def users(self) -> Iterator[Record]:
        """What the bank knows of each app user; holdings are those at the start of the period."""
        for user in self.app_users:
            yield {
                "user_id": user.visitor.user_id,
                "linked_visitor_id": user.linked_visitor_id,
                "age": user.visitor.age,
                "tenure_months": user.visitor.tenure_months,
                "device": user.visitor.device,
                "holdings": [self.catalogue.products[index] for index in sorted(user.visitor.holdings)],
            }

    def impressions(self) -> Iterator[Record]:
        tiles = self.catalogue.tiles
        for user in self.app_users:
            for shown in user.impressions:
                yield {
                    "user_id": user.visitor.user_id,
                    "time": shown.time_ms,
                    "tiles": [tiles[tile] for tile in shown.tiles],
                    "propensities": list(shown.propensities),
                    "clicked": None if shown.clicked is None else tiles[shown.clicked],
                }

    def conversions(self) -> Iterator[Record]:
        for user in self.app_users:
            for conversion in user.conversions:
                product = self.catalogue.products[conversion.product]
                yield {"user_id": user.visitor.user_id, "time": conversion.time_ms, "product": product}

    def outcomes(self) -> Iterator[Record]:
        """What known visitors did and were shown in the app, as `streamer replay --outcomes` takes it."""
        linked = {user.visitor.user_id: user.linked_visitor_id for user in self.app_users}
        for row in self.impressions():
            if visitor_id := linked[row["user_id"]]:
                shown = {name: row[name] for name in ("time", "tiles", "clicked")}
                yield {"visitor_id": visitor_id, **shown}
        for row in self.conversions():
            if visitor_id := linked[row["user_id"]]:
                yield {"visitor_id": visitor_id, "time": row["time"], "outcome": row["product"]}


Table = Literal["clicks", "sessions", "visitors", "users", "impressions", "conversions", "outcomes"]


def simulate(config: SimulatorConfig, catalogue: Catalogue | None = None) -> Simulated:
    """The same config and catalogue give the same tables; names of intents and parents don't affect anything
    else."""
    catalogue = load_catalogue() if catalogue is None else catalogue
    people_rng, web_rng, bot_rng, id_rng, app_rng, later_rng = np.random.default_rng(config.seed).spawn(6)
    people = [
        with_later_interests(later_rng, person, catalogue, config)
        for person in draw_visitors(people_rng, catalogue, config)
    ]
    outlines: list[Outline] = []
    clicks: list[RawClick] = []
    site = Site(catalogue)
    histories = [_walk_visitor(web_rng, person, site, config, outlines, clicks) for person in people]
    for bot in draw_bots(bot_rng, len(outlines), config):
        _keep(bot, walk_bot(bot_rng, bot, len(outlines), catalogue), outlines, clicks)
    clicks.sort(key=lambda click: click.timestamp)
    return Simulated(
        config=config,
        catalogue=catalogue,
        people=people,
        outlines=outlines,
        raw_clicks=clicks,
        event_ids=id_rng.bytes(16 * len(clicks)),
        app_users=_app_users(app_rng, people, histories, catalogue, config),
    )


def _walk_visitor(
    rng: np.random.Generator,
    person: Visitor,
    site: Site,
    config: SimulatorConfig,
    outlines: list[Outline],
    clicks: list[RawClick],
) -> list[WebSession]:
    history: list[WebSession] = []
    for plan in plan_sessions(rng, person, site.catalogue, config):
        start_ms = plan.start_ms
        if history:
            start_ms = max(start_ms, history[-1].ended_ms + BETWEEN_SESSIONS_MS)
        walked = Walk(rng, site, plan, len(outlines), start_ms, config).run()
        _keep(plan, walked, outlines, clicks)
        history.append(WebSession(walked[-1].timestamp, plan.intents, plan.stage))
    return history


def _keep(
    of: PlannedSession | Bot, walked: list[RawClick], outlines: list[Outline], clicks: list[RawClick]
) -> None:
    outlines.append(Outline(of, walked[0].timestamp, walked[-1].timestamp, len(walked)))
    clicks.extend(walked)


def _app_users(
    rng: np.random.Generator,
    people: list[Visitor],
    histories: list[list[WebSession]],
    catalogue: Catalogue,
    config: SimulatorConfig,
) -> list[AppUser]:
    world = AppSimulation(catalogue, config)
    links = draw_links(rng, people, config)
    users = []
    for person, sessions, link in zip(people, histories, links, strict=True):
        if person.has_app:
            conversions = world.conversions(rng, person, sessions)
            impressions = world.impressions(rng, person, sessions, conversions)
            users.append(AppUser(person, link, impressions, conversions))
    return users


def _uuid(raw: bytes) -> str:
    """In the form of a random (version 4) UUID."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"
