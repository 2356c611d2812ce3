"""People on their browsers: what changes where, and what stays as it is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest

from streamer.models.simulator import Simulated, SimulatorConfig, simulate
from streamer.models.simulator.households import CONFIDENCE, Households, draw_households
from streamer.models.simulator.people import DAY_MS

CONFIG = SimulatorConfig(seed=5, visitors=600)


@pytest.fixture(scope="module")
def world() -> Simulated:
    return simulate(CONFIG)


@pytest.fixture(scope="module")
def households(world: Simulated) -> Households:
    return draw_households(world, 3, sharing=0.4, wrong_link_rate=0.1)


def customers_of(households: Households) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for record in households.sessions():
        found[record["visitor_id"]].add(record["user_id"])
    return found


def test_the_same_seed_gives_the_same_households(world: Simulated, households: Households) -> None:
    again = draw_households(world, 3, sharing=0.4, wrong_link_rate=0.1)
    assert list(again.clicks()) == list(households.clicks())
    assert again.links == households.links
    assert draw_households(world, 4, sharing=0.4, wrong_link_rate=0.1).links != households.links


def test_clicks_are_those_of_the_simulation_but_for_the_browser(
    world: Simulated, households: Households
) -> None:
    of_browser = ("visitor_id", "device", "user_agent")
    for before, after in zip(world.clicks(), households.clicks(), strict=True):
        assert {k: v for k, v in before.items() if k not in of_browser} == {
            k: v for k, v in after.items() if k not in of_browser
        }


def test_two_people_at_most_have_a_browser_in_common_and_nobody_without_sharing(
    world: Simulated, households: Households
) -> None:
    assert {len(users) for users in customers_of(households).values()} == {1, 2}
    alone = customers_of(draw_households(world, 3, sharing=0.0))
    assert {len(users) for users in alone.values()} == {1}
    assert len(alone) > len({user for users in alone.values() for user in users})


def test_wrong_links_are_as_many_as_asked_for_and_change_no_browser(world: Simulated) -> None:
    right, wrong = (draw_households(world, 3, wrong_link_rate=rate) for rate in (0.0, 0.5))
    assert right.browsers == wrong.browsers
    used = customers_of(right)
    assert all(link["user_id"] in used[link["visitor_id"]] for link in right.links)
    misses = [link["user_id"] not in used[link["visitor_id"]] for link in wrong.links]
    assert sum(misses) / len(misses) == pytest.approx(0.5, abs=0.1)
    assert {link["confidence"] for link in wrong.links} == {CONFIDENCE}


def test_interests_last_for_good_unless_asked_otherwise(world: Simulated) -> None:
    assert {len(person.interests) for person in world.people} == {1}
    moving = simulate(replace(CONFIG, interest_days=30.0))
    counts = [len(person.interests) for person in moving.people]
    assert sum(counts) / len(counts) == pytest.approx(1 + CONFIG.period_days / 30.0, rel=0.1)
    for person, before in zip(moving.people, world.people, strict=True):
        assert person.interests[0] == before.interests[0]
        for each in person.interests:
            assert person.interests_at(each.since_ms) == each
        assert person.interests_at(CONFIG.start_ms - DAY_MS) == person.interests[0]
