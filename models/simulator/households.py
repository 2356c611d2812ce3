"""Who uses which browser: customers with several, browsers that two customers share, and links between both.

The people, their sessions and what they do in the app are those of a simulation. Here their sessions are put
on browsers, whose ids are the clicks' visitor ids, and an app or a CRM says of some browsers whose they are,
sometimes wrongly. Whose a session really is, is in `sessions()` alone.

The shares were set by reasoning, before any session was attributed, and are left alone since. Half of the
people use a phone and a computer. A fifth live with another customer and do half of their banking on a
computer or tablet that both use: whoever is at it. Half of the browsers of app users get tied to them by an
e-mail that they open there or by a switch between the site and the app, within days of a session there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streamer.models.simulator.draw import cumulate, pick, pick_one
from streamer.models.simulator.people import DAY_MS, USER_AGENTS, Visitor
from streamer.models.simulator.plan import PlannedSession
from streamer.models.simulator.simulation import Record, Simulated

SECOND_BROWSER_SHARE = 0.5
"""People with a second browser of their own."""
SECOND_BROWSER_SESSIONS = 0.35
"""Their sessions on it."""
SHARED_SESSIONS = 0.5
"""Sessions of people who share a browser that are on that one."""
LINKED_SHARE = 0.5
"""Browsers that are linked to a customer, of those that a user of the app uses."""
LINK_DAYS = 2.0
"""Mean time between a session and the link of its browser."""
CONFIDENCE = 0.9
"""What every link claims: whoever writes it can't tell the wrong ones."""

_SHARED_DEVICES = ("desktop", "tablet")
_SHARED_DEVICE_SHARES = cumulate((0.7, 0.3))


@dataclass(frozen=True, slots=True)
class Browser:
    visitor_id: str
    device: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Households:
    simulated: Simulated
    browsers: list[Browser | None]
    """By session; None for a bot's."""
    links: list[Record]
    """In order of time, as `streamer replay --links` takes them."""

    def clicks(self) -> Iterator[Record]:
        """Those of the simulation, from these browsers."""
        for raw, click in zip(self.simulated.raw_clicks, self.simulated.clicks(), strict=True):
            browser = self.browsers[raw.session]
            if browser is None:
                yield click
            else:
                of_browser = {"device": browser.device, "user_agent": browser.user_agent}
                yield {**click, "visitor_id": browser.visitor_id, **of_browser}

    def sessions(self) -> Iterator[Record]:
        """The truth of each session of a person, with the customer whose it is; in order of (start, visitor
        id). On a shared browser two may be so close that their clicks make one session."""
        found = []
        for outline, browser in zip(self.simulated.outlines, self.browsers, strict=True):
            if browser is not None and isinstance(outline.of, PlannedSession):
                found.append(
                    {
                        "visitor_id": browser.visitor_id,
                        "start": outline.started_ms,
                        "end": outline.ended_ms,
                        "user_id": outline.of.visitor.user_id,
                    }
                )
        yield from sorted(found, key=lambda record: (record["start"], record["visitor_id"]))


def draw_households(
    simulated: Simulated, seed: int, *, sharing: float = 0.2, wrong_link_rate: float = 0.03
) -> Households:
    """The same arguments give the same households.

    `sharing` is the share of people who have a browser in common with another customer; of the links,
    `wrong_link_rate` name a customer at random. Neither changes which browsers people have of their own.
    """
    own_rng, shared_rng, place_rng, link_rng = np.random.default_rng(seed).spawn(4)
    own = [_own_browsers(own_rng, person) for person in simulated.people]
    shared = _shared_browsers(shared_rng, len(own), sharing)
    place = {person.user_id: index for index, person in enumerate(simulated.people)}
    browsers: list[Browser | None] = []
    for outline in simulated.outlines:
        if isinstance(outline.of, PlannedSession):
            index = place[outline.of.visitor.user_id]
            browsers.append(_browser_of_session(place_rng, own[index], shared.get(index)))
        else:
            browsers.append(None)
    return Households(simulated, browsers, _links(link_rng, simulated, browsers, wrong_link_rate))


def _own_browsers(rng: np.random.Generator, person: Visitor) -> list[Browser]:
    """The first is the one that the person has in the simulation."""
    first = Browser(person.visitor_id, person.device, person.user_agent)
    other = "desktop" if person.device == "mobile" else "mobile"
    second = _new_browser(rng, other)
    return [first, second] if rng.random() < SECOND_BROWSER_SHARE else [first]


def _shared_browsers(rng: np.random.Generator, people: int, sharing: float) -> dict[int, Browser]:
    """By person; two and two have the same."""
    pairs = rng.permutation(people)[: 2 * round(sharing * people / 2)].reshape(-1, 2)
    found = {}
    for one, other in pairs.tolist():
        device = _SHARED_DEVICES[pick(rng, _SHARED_DEVICE_SHARES)]
        found[one] = found[other] = _new_browser(rng, device)
    return found


def _new_browser(rng: np.random.Generator, device: str) -> Browser:
    return Browser("v-" + rng.bytes(8).hex(), device, pick_one(rng, USER_AGENTS[device]))


def _browser_of_session(rng: np.random.Generator, own: list[Browser], shared: Browser | None) -> Browser:
    on_shared, on_second = rng.random(2).tolist()
    if shared is not None and on_shared < SHARED_SESSIONS:
        return shared
    return own[-1] if on_second < SECOND_BROWSER_SESSIONS else own[0]


def _links(
    rng: np.random.Generator, simulated: Simulated, browsers: list[Browser | None], wrong_link_rate: float
) -> list[Record]:
    """At most one of each app user to each browser that they use, after one of their sessions on it."""
    ends: dict[tuple[str, str], list[int]] = {}
    for outline, browser in zip(simulated.outlines, browsers, strict=True):
        if browser is not None and isinstance(outline.of, PlannedSession) and outline.of.visitor.has_app:
            used = outline.of.visitor.user_id, browser.visitor_id
            ends.setdefault(used, []).append(outline.ended_ms)
    links = []
    for (user_id, visitor_id), times in ends.items():
        linked, when, wrong, other = rng.random(4).tolist()
        delay_ms = int(rng.exponential(LINK_DAYS) * DAY_MS)
        if linked >= LINKED_SHARE:
            continue
        named = simulated.people[int(other * len(simulated.people))].user_id
        links.append(
            {
                "timestamp": times[int(when * len(times))] + delay_ms,
                "visitor_id": visitor_id,
                "user_id": named if wrong < wrong_link_rate else user_id,
                "action": "link",
                "confidence": CONFIDENCE,
            }
        )
    return sorted(links, key=lambda link: (link["timestamp"], link["visitor_id"], link["user_id"]))
