"""Where sessions lie on the map, and whether they have drifted: from a bundle's own figures."""

from __future__ import annotations

import numpy as np
import pytest

from streamer.models.drift_profile import Profile
from streamer.models.prototypes import Prototypes
from streamer.models.sphere import Sphere, unit
from streamer.ui.drift import drift_of
from streamer.ui.projection import Projection
from streamer.ui.state import Filter, PageState
from tests.client.records import NOW_MS, a_record


def some_prototypes(seed: int = 0) -> Prototypes:
    chance = np.random.default_rng(seed)
    spread = np.array([3, 2] + [0.1] * 6)
    directions = unit(chance.normal(size=(12, 8)) * spread)
    return Prototypes("v", "space", 0.1, Sphere(np.zeros(8, np.float32)), directions)


def test_a_place_follows_from_the_bundle_alone() -> None:
    embedding = [0.3, -0.2, 0.1, 0, 0, 0, 0.4, 0]
    one, two = (Projection.of(some_prototypes()) for _ in range(2))
    assert one.place(embedding) == two.place(embedding)
    assert one.place([2 * each for each in embedding]) == pytest.approx(one.place(embedding), abs=1e-6)


def test_the_map_is_along_the_directions_in_which_prototypes_differ_most() -> None:
    projection = Projection.of(some_prototypes())
    assert projection.kept > 0.9
    x, y = projection.place([1, 0, 0, 0, 0, 0, 0, 0])
    assert np.hypot(x, y) > 0.95
    assert np.hypot(*projection.place([0, 0, 0, 0, 0, 0, 0, 1])) < 0.3


def test_the_sign_of_a_direction_is_no_chance() -> None:
    for seed in range(20):
        directions = Projection.of(some_prototypes(seed)).directions
        assert (np.take_along_axis(directions, np.abs(directions).argmax(1)[:, None], 1) > 0).all()


def test_only_sessions_of_people_that_are_held_are_on_the_map() -> None:
    page = PageState()
    for name, is_bot in (("one", False), ("two", True), ("three", False)):
        page.session(a_record(name, session_id=name, is_bot=is_bot), 0, NOW_MS)
        page.place(name, (0.1, 0.2))
    page.place("nobody", (0.3, 0.3))
    page.erased_visitor("three")
    page.session(
        a_record("three", session_id="three", revision=1), 0, NOW_MS
    )  # their place is forgotten, too
    assert [(each.session_id, point) for each, point in page.placed(9)] == [("one", (0.1, 0.2))]


PROFILE = Profile(
    100, "test", [], {"intent": {"cards": 50, "loans": 50}, "abstention": {"none": 100, "ambiguous": 0}}
)


def seen(cards: int, loans: int) -> PageState:
    page = PageState()
    for number in range(cards + loans):
        record = a_record("v", session_id=f"s{number}")
        if number >= cards:
            record["intents"] = record["intents"][::-1]
        page.session(record, 0, NOW_MS)
    return page


def test_sessions_like_those_of_the_bundle_have_not_drifted() -> None:
    found = drift_of(seen(60, 60).newest(Filter(), None), PROFILE, "m@1")
    assert found.sessions == 120
    assert max(found.psi.values()) < 0.01


def test_sessions_of_other_intents_have_drifted() -> None:
    found = drift_of(seen(110, 10).newest(Filter(), None), PROFILE, "m@1")
    assert found.psi["intent"] > 0.25


def test_drift_is_not_judged_by_a_few_sessions_or_those_of_another_model() -> None:
    assert drift_of(seen(50, 49).newest(Filter(), None), PROFILE, "m@1").psi == {}
    assert drift_of(seen(60, 60).newest(Filter(), None), PROFILE, "m@2").sessions == 0
