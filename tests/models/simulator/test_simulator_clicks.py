"""The clicks: valid by the contract, rising in time, free of anything latent, with the configured shares."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest

from streamer.models.simulator import Simulated, SimulatorConfig, load_catalogue, simulate
from streamer.pipeline.decode import ClickDecoder

Clicks = list[dict[str, Any]]


@pytest.fixture(scope="module")
def clicks(world: Simulated) -> Clicks:
    return list(world.clicks())


def share(hits: int, total: int) -> float:
    assert total > 0
    return hits / total


def test_every_click_is_accepted_by_the_decoder(clicks: Clicks) -> None:
    decoder = ClickDecoder("json")
    for click in clicks:
        arrived = decoder.decode(orjson.dumps(click), arrival=click["timestamp"], fallback_id="none")
        if click.get("consent") is False:
            assert arrived is None
            continue
        assert arrived is not None
        assert arrived.visitor_id == click["visitor_id"]
        assert arrived.click.event_id == click["event_id"]
        assert arrived.click.timestamp == click["timestamp"]


def test_clicks_come_in_order_of_time_with_ids_of_their_own(clicks: Clicks) -> None:
    times = [click["timestamp"] for click in clicks]
    assert times == sorted(times)
    assert len({click["event_id"] for click in clicks}) == len(clicks)


def test_cutting_at_half_an_hour_gives_exactly_the_true_sessions(world: Simulated, clicks: Clicks) -> None:
    by_visitor: dict[str, list[int]] = defaultdict(list)
    for click in clicks:
        by_visitor[click["visitor_id"]].append(click["timestamp"])
    cut = set()
    for visitor_id, times in by_visitor.items():
        begin = 0
        for at in range(1, len(times) + 1):
            if at == len(times) or times[at] - times[at - 1] > 1_800_000:
                cut.add((visitor_id, times[begin], times[at - 1], at - begin))
                begin = at
    true = {(s["visitor_id"], s["start"], s["end"], s["clicks"]) for s in world.sessions()}
    assert cut == true


def test_times_rise_strictly_within_a_session(world: Simulated, clicks: Clicks) -> None:
    by_visitor: dict[str, list[int]] = defaultdict(list)
    for click in clicks:
        by_visitor[click["visitor_id"]].append(click["timestamp"])
    assert all(a < b for times in by_visitor.values() for a, b in pairwise(times))


def test_no_latent_name_is_in_a_click() -> None:
    catalogue = load_catalogue()
    marked = replace(
        catalogue,
        intents=tuple(replace(intent, name=f"latent-{i}") for i, intent in enumerate(catalogue.intents)),
        parents=tuple(replace(parent, name=f"latent-{i}") for i, parent in enumerate(catalogue.parents)),
    )
    simulated = simulate(SimulatorConfig(visitors=100), marked)
    assert all(b"latent" not in orjson.dumps(click) for click in simulated.clicks())
    assert any("latent" in orjson.dumps(session).decode() for session in simulated.sessions())


def test_a_user_id_shows_from_the_login_on_and_never_for_never_login_visitors(
    world: Simulated, clicks: Clicks
) -> None:
    people = {person["visitor_id"]: person for person in world.visitors()}
    logins = 0
    for click in clicks:
        logins += click["event_type"] == "login"
        if "user_id" in click:
            person = people[click["visitor_id"]]
            assert not person["never_login"]
            assert click["user_id"] == person["user_id"]
        else:
            assert click["event_type"] != "login"
    assert logins > 0


@pytest.mark.parametrize("bot_share", [0.0, 0.02, 0.3])
def test_bots_make_the_configured_share_of_sessions(bot_share: float) -> None:
    sessions = list(simulate(SimulatorConfig(visitors=200, bot_share=bot_share)).sessions())
    bots = sum(session["bot"] is not None for session in sessions)
    assert share(bots, len(sessions)) == pytest.approx(bot_share, abs=0.003)


def test_bots_are_recognised_by_user_agent_or_by_a_hundred_clicks_in_a_hundred_seconds(
    world: Simulated, clicks: Clicks
) -> None:
    kinds = {s["visitor_id"]: s["bot"] for s in world.sessions() if s["bot"] is not None}
    decoder = ClickDecoder("json")
    times: dict[str, list[int]] = defaultdict(list)
    for click in clicks:
        times[click["visitor_id"]].append(click["timestamp"])
        arrived = decoder.decode(orjson.dumps(click), click["timestamp"], "none")
        assert arrived is None or arrived.crawler == (kinds.get(click["visitor_id"]) == "crawler")
    fast = {v for v, t in times.items() if any(b - a <= 100_000 for a, b in zip(t, t[99:], strict=False))}
    assert fast == {visitor_id for visitor_id, kind in kinds.items() if kind == "fast"}
    assert set(kinds.values()) == {"crawler", "fast"}


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_sessions_with_two_intents_come_at_the_configured_rate(rate: float) -> None:
    simulated = simulate(SimulatorConfig(visitors=400, second_intent_rate=rate))
    sessions = [session for session in simulated.sessions() if session["bot"] is None]
    two = sum(len(session["intents"]) == 2 for session in sessions)
    assert share(two, len(sessions)) == pytest.approx(rate, abs=0.03)
    assert all(len(set(session["intents"])) == len(session["intents"]) for session in sessions)


@pytest.mark.parametrize("rate", [0.0, 0.15, 1.0])
def test_queries_are_misspelt_at_the_configured_rate(rate: float) -> None:
    catalogue = load_catalogue()
    groups = [
        catalogue.site_words,
        *(p.words for p in catalogue.parents),
        *(c.words for c in catalogue.campaigns),
    ]
    groups += [intent.words for intent in catalogue.intents]
    known = {word for group in groups for term in group for word in term.split()}
    simulated = simulate(SimulatorConfig(visitors=300, misspelling_rate=rate, drift=0.0))
    queries = [click["search_query"] for click in simulated.clicks() if "search_query" in click]
    wrong = sum(any(word not in known for word in query.split(" ")) for query in queries)
    # A letter lost can leave another word of the catalogue: "cards" and "card".
    assert rate - 0.04 - 0.05 * rate <= share(wrong, len(queries)) <= rate + 0.04


def test_visitors_without_consent_say_so_on_every_click(world: Simulated, clicks: Clicks) -> None:
    refusing = {person["visitor_id"] for person in world.visitors() if not person["consent"]}
    assert refusing == {click["visitor_id"] for click in clicks if click.get("consent") is False}
    assert refusing.isdisjoint(click["visitor_id"] for click in clicks if click.get("consent") is True)
    assert share(len(refusing), world.config.visitors) == pytest.approx(0.01, abs=0.01)


def test_session_lengths_are_as_on_a_real_site(world: Simulated) -> None:
    lengths = sorted(session["clicks"] for session in world.sessions() if session["bot"] is None)
    assert 5 <= lengths[len(lengths) // 2] <= 6
    assert lengths[0] == 1
    assert lengths[-1] == world.config.max_clicks


def test_campaign_pages_show_up_late_only(world: Simulated, clicks: Clicks) -> None:
    config = world.config
    late_ms = config.start_ms + int(config.drift_from * config.period_days * 86_400_000)
    landings = [click["timestamp"] for click in clicks if click["page_type"] == "landing"]
    assert landings
    assert min(landings) >= late_ms


def test_without_drift_there_is_no_campaign() -> None:
    simulated = simulate(SimulatorConfig(visitors=200, drift=0.0))
    assert all(click["page_type"] != "landing" for click in simulated.clicks())


def test_full_page_noise_leaves_little_of_the_intent() -> None:
    def own_share(noise: float) -> float:
        simulated = simulate(SimulatorConfig(visitors=100, page_noise=noise))
        intents = simulated.catalogue.intents
        own = {(i.name, page.title) for i in intents for page in i.pages}
        first = {(s["visitor_id"], s["start"]): s["intents"][0] for s in simulated.sessions() if s["intents"]}
        current: dict[str, str] = {}
        hits = total = 0
        for click in simulated.clicks():
            key = (click["visitor_id"], click["timestamp"])
            current[click["visitor_id"]] = first.get(key, current.get(click["visitor_id"], ""))
            hits += (current[click["visitor_id"]], click["page_title"]) in own
            total += 1
        return share(hits, total)

    assert own_share(0.0) > own_share(0.1) > own_share(0.5) > own_share(1.0)
