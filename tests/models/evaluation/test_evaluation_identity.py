"""Simulated customers with shared browsers and links, through the product's stages, beside the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from streamer.models.evaluation.experiment import Experiment, Scale
from streamer.models.evaluation.household_data import HouseholdData, household_data
from streamer.models.evaluation.result_store import ResultStore
from streamer.models.evaluation.steps_identity import (
    UnfoundedError,
    attribution,
    judged,
    kinds,
    named_by_ties,
    require_founded,
)
from streamer.models.simulator import SimulatorConfig
from streamer.replay.identities import Identities
from streamer.schemas import codec
from tests.identity.oracle import DAY, Limits, Said, whose
from tests.models.evaluation.sessions_of_people import cut

LOOKBACK_DAYS = (1.0, 7.0, 30.0)


@pytest.fixture(scope="module")
def data(stages: Identities, tmp_path_factory: pytest.TempPathFactory) -> HouseholdData:
    """Half of the people share a browser, and 15 % of the links are wrong."""
    config = SimulatorConfig(seed=21, visitors=400)
    made = household_data(config, 0.5, cut, stages, tmp_path_factory.mktemp("households"))
    return made.with_links(21, 0.5, 0.15)


@pytest.mark.parametrize("days", LOOKBACK_DAYS)
def test_each_session_is_whose_the_rules_say(stages: Identities, data: HouseholdData, days: float) -> None:
    sessions = [codec.decode(message)[1] for _, message in data.scored]
    links = [
        Said(link["timestamp"], link["visitor_id"], link["user_id"], True, link["confidence"])
        for link in data.links
    ]
    limits = Limits(lookback=round(days * DAY))
    expected = {}
    for session in sessions:
        own = [each for each in sessions if each["visitor_id"] == session["visitor_id"]]
        found = whose(session, own, [link for link in links if link.visitor == session["visitor_id"]], limits)
        if not isinstance(found, str):
            expected[session["session_id"]] = found[:2]
    found = stages.attributed(data.scored, data.links, days)
    assert found == expected
    require_founded(data, found, days)
    assert {user for _, user in found.values()} == {"login", "link"}


def test_records_hold_the_sessions_that_are_their_customers(stages: Identities, data: HouseholdData) -> None:
    attributed = stages.attributed(data.scored, data.links, 30.0)
    latest = {user: record for _, user, record in stages.records(data.scored, data.links, 7.0)}
    counted = 0
    for user, record in latest.items():
        if record is None:
            assert user not in {each for each, _ in attributed.values()}
            continue
        assert all(attributed[past["session_id"]][0] == user for past in record["history"])
        counted += record["sessions"]
    assert counted == len(attributed)


def test_a_session_of_another_than_the_one_named_is_an_error(stages: Identities, data: HouseholdData) -> None:
    found = stages.attributed(data.scored, data.links, 7.0)
    session_id, (_, how) = next(iter(found.items()))
    with pytest.raises(UnfoundedError, match=session_id):
        require_founded(data, {**found, session_id: ("somebody", how)}, 7.0)


def test_a_session_with_ties_to_two_customers_is_nobodys(stages: Identities, data: HouseholdData) -> None:
    named = named_by_ties(data, 30.0)
    disputed = [s for s, users in zip(data.sessions, named, strict=True) if len(users) > 1]
    assert disputed
    assert not {s.session_id for s in disputed} & set(stages.attributed(data.scored, data.links, 30.0))
    wrong = {disputed[0].session_id: (named[data.sessions.index(disputed[0])].pop(), "link")}
    with pytest.raises(UnfoundedError):
        require_founded(data, wrong, 30.0)


def test_attributing_all_to_their_owners_is_perfect_and_to_others_is_not(data: HouseholdData) -> None:
    owned = [(s, min(users)) for s, users in zip(data.sessions, data.owners, strict=True) if len(users) == 1]
    right = {s.session_id: (user, "link") for s, user in owned}
    assert {name: each.value() for name, each in judged(data, right).items()} == {
        "precision": 1.0,
        "recall": 1.0,
        "recall_without_login": 1.0,
    }
    wrong = {session_id: ("another", how) for session_id, (_, how) in right.items()}
    assert judged(data, wrong)["precision"].value() == judged(data, wrong)["recall"].value() == 0.0
    assert kinds(data, wrong)["link_wrong"] == len(owned)


def test_a_longer_lookback_finds_more_and_wrong_links_cost_precision(
    stages: Identities, tmp_path: Path
) -> None:
    scale = Scale(visitors=400, seeds=(21,), draws=50)
    experiment = Experiment(ResultStore(tmp_path / "results", tmp_path / "cache"), cut, scale)
    found = attribution(experiment, stages)
    rows = {(row["wrong_links"], row["lookback_days"]): row for row in found["rows"]}
    assert len(rows) == 9
    for wrong in (0.0, 0.03, 0.15):
        recall = [rows[wrong, days]["recall"]["value"] for days in LOOKBACK_DAYS]
        assert recall == sorted(recall)
    assert rows[0.0, 7.0]["precision"]["value"] > rows[0.15, 7.0]["precision"]["value"]
    known = replace(experiment, store=replace(experiment.store, known_only=True))
    assert attribution(known, stages) == found
