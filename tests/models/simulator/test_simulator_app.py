"""The app: exact propensities, outcomes after their cause, links wrong and missing at the configured rate."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from streamer.models.simulator import Simulated, SimulatorConfig, simulate
from streamer.models.simulator.app import draw_links, draw_slate, slot_probabilities

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def ends_by_user(world: Simulated) -> dict[str, list[int]]:
    """The ends of every user's true web sessions."""
    user_of = {person["visitor_id"]: person["user_id"] for person in world.visitors()}
    ends: dict[str, list[int]] = defaultdict(list)
    for session in world.sessions():
        if session["bot"] is None:
            ends[user_of[session["visitor_id"]]].append(session["end"])
    return ends


@pytest.mark.parametrize("exploration", [0.0, 0.1, 1.0])
def test_slot_probabilities_sum_to_one_and_leave_out_what_is_taken(exploration: float) -> None:
    weights = np.array([1.0, 0.0, 3.0, 0.5])
    probabilities = slot_probabilities(weights, exploration)
    assert probabilities.sum() == pytest.approx(1.0)
    assert probabilities[1] == 0.0
    assert probabilities[0] == pytest.approx(exploration / 3 + (1 - exploration) * 1.0 / 4.5)


def test_a_slate_logs_the_probability_each_tile_had_for_its_slot() -> None:
    weights = np.array([1.0, 2.0, 3.0, 0.5, 0.1])
    rng = np.random.default_rng(0)
    for _ in range(50):
        tiles, propensities = draw_slate(rng, weights, 5, 0.2)
        assert sorted(tiles) == [0, 1, 2, 3, 4]
        left = weights.copy()
        for tile, propensity in zip(tiles, propensities, strict=True):
            assert propensity == pytest.approx(slot_probabilities(left, 0.2)[tile])
            left[tile] = 0.0


def test_logged_propensities_are_the_frequencies_with_which_tiles_come_first() -> None:
    weights = np.array([1.0, 2.0, 3.0, 0.5, 0.1])
    rng = np.random.default_rng(1)
    firsts = np.bincount([draw_slate(rng, weights, 1, 0.2)[0][0] for _ in range(20_000)], minlength=5)
    assert firsts / 20_000 == pytest.approx(slot_probabilities(weights, 0.2), abs=0.015)


def test_impressions_show_distinct_tiles_with_their_propensities_and_at_most_one_click(
    world: Simulated,
) -> None:
    clicked = 0
    for row in world.impressions():
        assert (
            len(row["tiles"])
            == len(set(row["tiles"]))
            == len(row["propensities"])
            == world.config.tiles_shown
        )
        left = len(world.catalogue.tiles) - np.arange(world.config.tiles_shown)
        assert np.all(np.array(row["propensities"]) >= world.config.exploration / left - 1e-12)
        assert np.all(np.array(row["propensities"]) <= 1.0)
        assert row["clicked"] is None or row["clicked"] in row["tiles"]
        clicked += row["clicked"] is not None
    assert clicked > 0


def test_conversions_come_after_a_web_session_of_the_same_user_and_once_per_product(
    world: Simulated, ends_by_user: dict[str, list[int]]
) -> None:
    seen = set()
    for row in world.conversions():
        assert row["time"] > min(ends_by_user[row["user_id"]])
        assert (row["user_id"], row["product"]) not in seen
        seen.add((row["user_id"], row["product"]))
    assert seen


def test_most_app_visits_follow_a_web_session_within_days(
    world: Simulated, ends_by_user: dict[str, list[int]]
) -> None:
    rows = list(world.impressions())
    soon = 0
    for row in rows:
        delays = [row["time"] - end for end in ends_by_user[row["user_id"]]]
        soon += any(0 < delay < 5 * 86_400_000 for delay in delays)
    assert 0.5 < soon / len(rows) < 0.95


def test_app_rows_belong_to_app_users_only(world: Simulated) -> None:
    users = {row["user_id"] for row in world.users()}
    assert users == {person["user_id"] for person in world.visitors() if person["has_app"]}
    assert {row["user_id"] for row in world.impressions()} <= users
    assert {row["user_id"] for row in world.conversions()} <= users


@pytest.mark.parametrize(("missing", "wrong"), [(0.0, 0.0), (0.1, 0.03), (0.3, 0.5), (1.0, 0.0)])
def test_links_are_missing_and_wrong_at_the_configured_rates(
    world: Simulated, missing: float, wrong: float
) -> None:
    config = SimulatorConfig(missing_link_rate=missing, wrong_link_rate=wrong)
    true = [visitor.visitor_id for visitor in world.people]
    links = draw_links(np.random.default_rng(2), world.people, config)
    assert sum(link is None for link in links) / len(true) == pytest.approx(missing, abs=0.04)
    astray = sum(link is not None and link != own for link, own in zip(links, true, strict=True))
    assert astray / len(true) == pytest.approx(wrong, abs=0.04)
    assert {link for link in links if link is not None} <= set(true)


def test_users_carry_the_drawn_links(world: Simulated) -> None:
    true = {person["user_id"]: person["visitor_id"] for person in world.visitors()}
    links = [(true[user["user_id"]], user["linked_visitor_id"]) for user in world.users()]
    right = sum(own == link for own, link in links) / len(links)
    assert right == pytest.approx(0.87, abs=0.04)


def lift(simulated: Simulated) -> float:
    """How much oftener the tile of the last session's first intent is clicked when shown than other tiles."""
    tile_of = {intent.name: simulated.catalogue.tiles[intent.tile] for intent in simulated.catalogue.intents}
    user_of = {person["visitor_id"]: person["user_id"] for person in simulated.visitors()}
    sessions: dict[str, Rows] = defaultdict(list)
    for session in simulated.sessions():
        if session["bot"] is None:
            sessions[user_of[session["visitor_id"]]].append(session)
    hits = {True: 0, False: 0}
    shown = {True: 0, False: 0}
    for row in simulated.impressions():
        before = [s for s in sessions[row["user_id"]] if row["time"] - 86_400_000 < s["end"] < row["time"]]
        if not before:
            continue
        wanted = tile_of[before[-1]["intents"][0]]
        for tile in row["tiles"]:
            shown[tile == wanted] += 1
            hits[tile == wanted] += tile == row["clicked"]
    return (hits[True] / shown[True]) / (hits[False] / shown[False])


def test_the_last_sessions_intent_draws_clicks_to_its_tile_with_the_signals_strength() -> None:
    lifts = [lift(simulate(SimulatorConfig(visitors=700, signal_strength=s))) for s in (0.0, 1.0, 2.0)]
    # Interests last, so that even without any signal of the session its intent's tile does a little better.
    assert 1.0 < lifts[0] < 2.5
    assert lifts[0] * 2 < lifts[1] < lifts[2]


def test_conversions_grow_with_the_signal_and_hardly_happen_without() -> None:
    counts = [
        len(list(simulate(SimulatorConfig(visitors=300, signal_strength=s)).conversions()))
        for s in (0.0, 1.0, 2.0)
    ]
    assert counts[0] * 2 < counts[1] < counts[2]
