"""The stages, fed in any order and restarted at any time, agree with an oracle that knows the rules alone."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamer.identity.links import Link
from streamer.identity.rules import IdentityRules
from tests.identity import oracle
from tests.identity.oracle import DAY, Said
from tests.identity.stages import Stages, comparable, leaves, session

VISITORS, USERS = ("va", "vb"), ("u1", "u2", "u3")
RULES = IdentityRules(lookback_ms=3 * DAY, history_ms=9 * DAY, half_life_ms=2 * DAY)
LIMITS = oracle.Limits(lookback=3 * DAY, history=9 * DAY, half_life=2 * DAY)
START = 1_795_000_000_000
HALF_DAYS = st.integers(0, 40)

sessions = st.lists(
    st.tuples(
        HALF_DAYS, st.sampled_from(VISITORS), st.sampled_from((None, None, *USERS)), st.sampled_from("nnnnb")
    ),
    max_size=14,
)
links = st.lists(
    st.tuples(
        HALF_DAYS,
        st.sampled_from(VISITORS),
        st.sampled_from(USERS),
        st.sampled_from((True, True, True, False)),
        st.sampled_from((0.0, 0.5, 1.0)),
    ),
    max_size=8,
)


def moment(half_days: int, number: int) -> int:
    return START + half_days * DAY // 2 + (number % 2)


@example(  # an unlink, read before a login that closed earlier, leaves what that login claims
    drawn=[(0, "va", None, "n"), (0, "vb", None, "n"), (1, "vb", "u2", "n")],
    said=[(7, "vb", "u1", False, 0.0)],
    chance=Random(1),
    restarts=False,
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions, links, st.randoms(use_true_random=False), st.booleans())
def test_latest_records_are_the_function_of_sessions_and_ties(
    drawn: list[Any], said: list[Any], chance: Any, restarts: bool
) -> None:
    compare(drawn, said, chance, restarts, RULES)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions, links, st.randoms(use_true_random=False), st.booleans())
def test_a_revision_takes_the_place_of_the_record_before(
    drawn: list[Any], said: list[Any], chance: Any, restarts: bool
) -> None:
    """Of a session with another click, which may have made it a customer's or a bot's."""
    shown, ties = drawn_records(drawn, said)
    current = {each["session_id"]: each for each in shown}
    revised = []
    for each in shown:
        if chance.random() < 0.5 and each["session_id"] in current:
            again = {**each, "closed_at": each["closed_at"] + DAY // 4, "revision": each["revision"] + 1}
            again["user_id"] = each["user_id"] or chance.choice((None, "u1"))
            again["is_bot"] = each["is_bot"] or chance.random() < 0.1
            if chance.random() < 0.5:
                other = f"r{each['session_id'][1:]}"  # all ids are equally long
                again |= {"session_id": other, "supersedes": each["session_id"]}
            revised.append(current.pop(each["session_id"]))
            current[again["session_id"]] = again
    stages = Stages(RULES)
    read(stages, [*revised, *current.values()], ties, chance, restarts)
    counts = stages.attribution.progress.counts
    assert counts.ambiguous + counts.anonymous + counts.link == sum(
        each["user_id"] is None and not each["is_bot"] for each in current.values()
    )
    assert leaves(comparable(stages.latest)) == pytest.approx(
        leaves(oracle.records(list(current.values()), ties, LIMITS, revised)), abs=1e-6
    )


@example(  # a session that is withdrawn had moved the history beyond older ones
    drawn=[
        (0, "va", None, "n"),
        (0, "va", None, "n"),
        (0, "va", None, "n"),
        (0, "va", "u1", "n"),
        (24, "va", None, "n"),
        (24, "va", "u2", "n"),
    ],
    said=[(18, "va", "u1", True, 0.0)],
    chance=Random(0),
    max_users=1,
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions, links, st.randoms(use_true_random=False), st.integers(1, 2))
def test_a_shared_visitor_is_ambiguous_with_less_in_memory(
    drawn: list[Any], said: list[Any], chance: Any, max_users: int
) -> None:
    """Without unlinks, from which a visitor that is found to be shared is exempt."""
    only_links = [each for each in said if each[3]]
    compare(drawn, only_links, chance, False, replace(RULES, max_users=max_users))


def drawn_records(drawn: list[Any], said: list[Any]) -> tuple[list[Any], list[Said]]:
    shown = [
        session(number, visitor, moment(at, number), user, is_bot=kind == "b")
        for number, (at, visitor, user, kind) in enumerate(drawn)
    ]
    # A session is not read so late that an unlink came a whole history after it.
    last = 2 * LIMITS.history // DAY
    ties = [Said(moment(at if rest[2] else at % last, n), *rest) for n, (at, *rest) in enumerate(said)]
    return sorted(shown, key=lambda each: each["closed_at"]), sorted(ties)


def read(stages: Stages, shown: list[Any], ties: list[Said], chance: Any, restarts: bool) -> None:
    """All of it, in order of time by kind."""
    waiting: list[list[Any]] = [sorted(shown, key=lambda each: each["closed_at"]), list(ties)]
    while any(waiting):
        kind = chance.randrange(2)
        if not waiting[kind]:
            continue
        record = waiting[kind].pop(0)
        if kind == 0:
            stages.session(record)
        else:
            link = Link(record.visitor, record.user, record.is_link, record.confidence)
            stages.attribution.link(link, record.at)
        if chance.random() < 0.3:
            stages.restart() if restarts else stages.commit()
    stages.attribution.links_read_until(START + 100 * DAY)
    stages.commit()


def compare(drawn: list[Any], said: list[Any], chance: Any, restarts: bool, rules: IdentityRules) -> None:
    shown, ties = drawn_records(drawn, said)
    stages = Stages(rules)
    read(stages, shown, ties, chance, restarts)
    counts = stages.attribution.progress.counts
    assert counts.total == len(shown)
    if all(tie.is_link for tie in ties):  # an unlink doesn't count again what was settled before it
        found = [oracle.whose(each, shown, ties, LIMITS) for each in shown]
        assert (counts.bots, counts.ambiguous, counts.anonymous) == tuple(
            map(found.count, ("bot", "ambiguous", "anonymous"))
        )
        assert counts.link == sum(isinstance(each, tuple) and each[1] == "link" for each in found)
    assert leaves(comparable(stages.latest)) == pytest.approx(
        leaves(oracle.records(shown, ties, LIMITS)), abs=1e-6
    )


@pytest.mark.parametrize("unlinked_at", [50, 100])
def test_older_sessions_take_the_place_of_many_that_are_withdrawn(unlinked_at: int) -> None:
    shown = [session(n, "va" if n < 50 else "vb", START + n, "u1") for n in range(100)]
    unlink = Said(START + unlinked_at, "vb", "u1", False)
    stages = Stages(RULES)
    for each in shown:
        stages.session(each)
        stages.commit()
    stages.attribution.link(Link(unlink.visitor, unlink.user, unlink.is_link, 1.0), unlink.at)
    stages.restart()
    expected = oracle.records(shown, [unlink], LIMITS)
    assert expected["u1"]["sessions"] == (50 if unlinked_at == 100 else 64)
    assert leaves(comparable(stages.latest)) == pytest.approx(leaves(expected), abs=1e-6)
