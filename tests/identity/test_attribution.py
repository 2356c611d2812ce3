from __future__ import annotations

import pytest

from streamer.identity.attribution import users_in
from streamer.identity.links import Link
from streamer.identity.rules import IdentityRules
from streamer.identity.ties import FLOOD_TIES, MAX_TIES, MAX_WAITING, SOMEBODY, Tie, VisitorTies
from tests.identity.oracle import DAY
from tests.identity.stages import Stages, session

START = 1_795_000_000_000
LOOKBACK = 30 * DAY


def at(days: float) -> int:
    return START + round(days * DAY)


def link(stages: Stages, visitor: str, user: str, days: float, confidence: float = 1.0) -> None:
    stages.attribution.link(Link(visitor, user, True, confidence), at(days))


def unlink(stages: Stages, visitor: str, user: str, days: float) -> None:
    stages.attribution.link(Link(visitor, user, False, 1.0), at(days))


def users_of(stages: Stages) -> dict[str, list[str]]:
    """Sessions in each user's record, newest first."""
    stages.restart()
    return {
        user: [each["session_id"] for each in record["history"]] for user, record in stages.latest.items()
    }


def test_a_login_claims_the_sessions_before_and_after_it() -> None:
    stages = Stages(IdentityRules())
    stages.session(session(1, "v", at(0)))
    assert users_of(stages) == {}
    stages.session(session(2, "v", at(1), "u"))
    stages.session(session(3, "v", at(2)))
    assert users_of(stages) == {"u": ["s003", "s002", "s001"]}


def test_a_second_customer_takes_the_anonymous_sessions_from_the_first() -> None:
    stages = Stages(IdentityRules())
    stages.session(session(1, "v", at(0), "u"))
    stages.session(session(2, "v", at(1)))
    assert users_of(stages) == {"u": ["s002", "s001"]}
    stages.session(session(3, "v", at(2), "w"))
    assert users_of(stages) == {"u": ["s001"], "w": ["s003"]}
    assert stages.attribution.progress.counts.ambiguous == 1


def test_an_unlink_takes_sessions_back_that_the_attribution_stage_has_forgotten() -> None:
    stages = Stages(IdentityRules())
    stages.session(session(1, "v", at(0), "u"))
    stages.session(session(2, "v", at(80), "u"))
    stages.session(session(3, "other", at(85), "u"))
    stages.attribution.links_read_until(at(85))
    unlink(stages, "v", "u", 85)
    assert users_of(stages) == {"u": ["s003"]}


def test_a_session_that_closed_before_an_unlink_and_comes_after_it_is_nobodys() -> None:
    stages = Stages(IdentityRules())
    unlink(stages, "v", "u", 2)
    stages.session(session(1, "v", at(1), "u"))
    assert users_of(stages) == {}
    assert stages.attribution.progress.counts.unlinked == 1


def test_copies_of_an_unlink_in_other_partitions_withdraw_nothing_that_closed_since() -> None:
    """Each copy of the link and of the unlink has a time of its own."""
    here, elsewhere = Stages(IdentityRules()), Stages(IdentityRules())
    link(here, "v", "u", 0)
    link(elsewhere, "v", "u", 0)
    here.session(session(1, "v", at(1), "u"))
    unlink(here, "v", "u", 2)
    here.session(session(2, "v", at(3), "u"))
    unlink(elsewhere, "v", "u", 4)
    here.commit()
    for user, change in elsewhere.attribution.take().changes:
        here.users.apply(user, change)
    assert users_of(here) == {"u": ["s002"]}


def test_the_lookback_is_inclusive_and_goes_both_ways() -> None:
    stages = Stages(IdentityRules())
    link(stages, "v", "u", 40)
    for number, days in enumerate((9.9, 10, 70)):
        stages.session(session(number, "v", at(days)))
    stages.session(session(3, "v", at(70) + 1))
    assert users_of(stages) == {"u": ["s002", "s001"]}


def test_a_provisional_record_is_held_until_the_final_one_and_ties_nothing() -> None:
    stages = Stages(IdentityRules())
    stages.session(session(1, "v", at(0)))
    stages.session(session(2, "v", at(1), "u", is_final=False, close_reason="open"))
    assert users_of(stages) == {"u": ["s002"]}
    assert not stages.latest["u"]["is_final"]
    stages.session(session(3, "v", at(1.1), "u", supersedes="s002"))
    assert users_of(stages) == {"u": ["s003", "s001"]}
    assert stages.latest["u"]["is_final"]


def test_a_session_that_turns_out_a_bots_is_withdrawn() -> None:
    stages = Stages(IdentityRules())
    stages.session(session(1, "v", at(0), "u", is_final=False, close_reason="open"))
    stages.session(session(1, "v", at(0.1), "u", is_bot=True))
    assert users_of(stages) == {}
    assert stages.attribution.progress.counts.bots == 1


def test_a_login_without_an_id_is_anonymous() -> None:
    stages = Stages(IdentityRules())
    for number, no_id in enumerate(("null", "Undefined", "0", "00000000-0000-0000-0000-000000000000")):
        stages.session(session(number, "v", at(number), no_id))
    assert users_of(stages) == {}
    assert stages.attribution.progress.counts.anonymous == 4


def test_state_goes_when_the_lookback_is_over() -> None:
    stages = Stages(IdentityRules())
    stages.session(session(1, "v", at(0)))
    link(stages, "w", "u", 0)
    assert len(stages.attribution) == 2
    stages.session(session(2, "x", at(32)))
    assert len(stages.attribution) == 3, "a link to come may reach back"
    stages.attribution.links_read_until(at(32))
    assert len(stages.attribution) == 1


def test_an_erased_visitor_leaves_every_record() -> None:
    stages = Stages(IdentityRules())
    stages.session(session(1, "v", at(0), "u"))
    stages.session(session(2, "v", at(1)))
    stages.session(session(3, "w", at(2), "u"))
    stages.commit()
    for stage in (stages.attribution, stages.users):
        stage.erase_visitor("v", at(3))
    assert users_of(stages) == {"u": ["s003"]}
    assert len(stages.attribution) == 1
    stages.session(session(4, "v", at(2.5), "u"))
    assert users_of(stages) == {"u": ["s003"]}, "it closed before the erasure"
    stages.session(session(5, "v", at(4)))
    assert users_of(stages) == {"u": ["s003"]}, "the tie is gone"


def test_an_erased_users_record_goes_and_nobody_inherits_what_was_ambiguous() -> None:
    stages = Stages(IdentityRules())
    stages.session(session(1, "v", at(0), "u"))
    stages.session(session(2, "v", at(1)))
    stages.session(session(3, "v", at(2), "w"))
    stages.commit()
    for stage in (stages.attribution, stages.users):
        stage.erase_user("u", at(3))
    assert users_of(stages) == {"w": ["s003"]}
    assert users_in(stages.attribution._states["v"]) == {"w", SOMEBODY}


@pytest.mark.parametrize("is_read_before", [True, False])
def test_a_session_that_is_open_at_an_erasure_doesnt_bring_its_user_back(is_read_before: bool) -> None:
    stages = Stages(IdentityRules())
    erased_at = at(3)

    def erase() -> None:
        for stage in (stages.attribution, stages.users):
            stage.erase_user("u", erased_at)

    open_then = {"started_at": erased_at - 1000}
    stages.session(session(1, "v", erased_at - 1, "u", is_final=False, **open_then))
    assert users_of(stages) == {"u": ["s001"]}
    if is_read_before:
        erase()
    stages.session(session(1, "v", erased_at + 5000, "u", **open_then))
    stages.restart()
    if not is_read_before:
        erase()
    assert users_of(stages) == {}
    assert users_in(stages.attribution._states["v"]) == {SOMEBODY}
    stages.session(session(2, "v", at(3.5)))
    assert users_of(stages) == {}, "nor what came later on that browser"
    stages.session(session(3, "w", at(3.2), "u", started_at=erased_at + 1))
    assert users_of(stages) == {"u": ["s003"]}, "who logs in again is a customer again"
    late = at(4) + 1
    stages.session(session(4, "w", late, "u", started_at=erased_at))
    assert users_of(stages) == {"u": ["s004", "s003"]}, "times of clicks say little that long afterwards"


def test_a_flood_of_links_leaves_little_state() -> None:
    stages = Stages(IdentityRules())
    stages.session(session(1, "v", at(0)))
    for number in range(5000):
        link(stages, "v", f"u{number}", 1 + number / 5000)
    stages.commit()
    state = stages.attribution._states["v"]
    assert len(state) < 2000
    assert stages.latest == {}
    assert stages.attribution.progress.counts.ambiguous == 1


def test_many_ties_of_one_user_are_thinned_without_another_answer() -> None:
    ties = VisitorTies()
    for number in range(300):
        ties.tie(Tie(at(number / 10), "u", (number * 7 % 10) / 10), LOOKBACK, 3, at(30))
    assert len(ties.ties) <= MAX_TIES
    assert ties.answer(at(15), LOOKBACK).confidence == 0.9
    assert ties.answer(at(-29.9), LOOKBACK).user_id == "u"
    assert ties.answer(at(59.8), LOOKBACK).user_id == "u"


def test_ever_surer_links_without_end_make_a_visitor_shared() -> None:
    ties = VisitorTies()
    for number in range(FLOOD_TIES + 1):
        ties.tie(Tie(at(1) + number, "u", number / 1000), LOOKBACK, 3, at(30))
    assert not ties.ties
    assert ties.answer(at(0), LOOKBACK).is_ambiguous


def test_the_newest_anonymous_sessions_wait() -> None:
    stages = Stages(IdentityRules())
    for number in range(MAX_WAITING + 3):
        stages.session(session(number, "v", at(number / 10)))
    link(stages, "v", "u", 8)
    stages.commit()
    assert stages.latest["u"]["sessions"] == MAX_WAITING


def test_of_a_user_with_too_many_visitors_only_logins_count() -> None:
    stages = Stages(IdentityRules(max_visitors=3))
    stages.session(session(0, "v0", at(0), "u"))
    for number in range(1, 4):
        link(stages, f"v{number}", "u", 1)
        stages.session(session(number, f"v{number}", at(2)))
    assert users_of(stages) == {"u": ["s000"]}
    assert stages.latest["u"]["visitors"] == 1
