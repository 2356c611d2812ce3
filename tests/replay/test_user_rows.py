"""Customers' records of a replay: what live ends with, in whatever order it read; each from its time on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.core.digest import MultisetDigest
from streamer.identity.links import Link
from streamer.identity.rules import IdentityRules
from streamer.pipeline.erasures import Erased
from streamer.replay.users import IdentityEvent, UserReplay, UserRow, in_order
from streamer.schemas import codec
from tests.identity import oracle
from tests.identity.oracle import DAY, Said
from tests.identity.stages import Stages, session
from tests.identity.test_against_oracle import (
    LIMITS,
    RULES,
    START,
    comparable,
    leaves,
    links,
    moment,
    sessions,
)

erasures = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(((None, "u1"), (None, "u2"), ("va", None), ("vb", None)))),
    max_size=2,
)


def message(record: dict[str, Any]) -> bytes:
    return codec.encode("visitor_intent", record)


def shown(*records: dict[str, Any], number: int = 0) -> list[IdentityEvent]:
    """Sessions of a partition."""
    return [IdentityEvent(each["closed_at"], number, message(each)) for each in records]


def replayed(
    *events: Iterable[IdentityEvent], rules: IdentityRules = RULES, partitions: int = 1
) -> tuple[UserReplay, list[UserRow]]:
    replay = UserReplay(rules, partitions)
    return replay, list(replay.rows(in_order(*events)))


def latest(rows: Iterable[UserRow]) -> dict[str, Any]:
    of_users = {row.user_id: row.message for row in rows}
    return {user: codec.decode(found)[1] for user, found in of_users.items() if found is not None}


def as_drawn(
    drawn: list[Any], said: list[Any]
) -> tuple[list[dict[str, Any]], list[Said], list[IdentityEvent]]:
    records = [
        session(number, visitor, moment(at, number), user, is_bot=kind == "b")
        for number, (at, visitor, user, kind) in enumerate(drawn)
    ]
    records.sort(key=lambda each: each["closed_at"])
    last = 2 * LIMITS.history // DAY  # no session is read a whole history later than an unlink
    ties = sorted(Said(moment(at if rest[2] else at % last, n), *rest) for n, (at, *rest) in enumerate(said))
    events = [
        IdentityEvent(tie.at, 0, Link(tie.visitor, tie.user, tie.is_link, tie.confidence)) for tie in ties
    ]
    return records, ties, events


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions, links)
def test_last_rows_are_the_function_of_sessions_and_ties(drawn: list[Any], said: list[Any]) -> None:
    records, ties, events = as_drawn(drawn, said)
    replay, rows = replayed(shown(*records), events)
    assert leaves(comparable(latest(rows))) == pytest.approx(
        leaves(oracle.records(records, ties, LIMITS)), abs=1e-6
    )
    assert replay.counts.total == len(records)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(sessions, links, erasures, st.randoms(use_true_random=False))
def test_last_rows_are_what_live_ends_with(
    drawn: list[Any], said: list[Any], erased: list[Any], chance: Any
) -> None:
    """Byte by byte, with live reading its topics as far apart as they may be, restarted at any moment."""
    records, _, events = as_drawn(drawn, said)
    to_forget = [
        IdentityEvent(moment(at, 0), 0, Erased(*who)) for at, who in sorted(erased, key=lambda e: e[0])
    ]
    replay, rows = replayed(shown(*records), events, to_forget)
    live = Stages(RULES)
    waiting: list[list[Any]] = [list(records), list(events), list(to_forget)]
    while any(waiting):
        topic = waiting[chance.randrange(len(waiting))]
        if topic:
            take_in(live, topic.pop(0))
        if chance.random() < 0.3:
            live.restart()
    live.commit()
    assert latest(rows) == live.latest
    digest = MultisetDigest()
    digest.add(codec.encode_body("user_intent", record) for record in live.latest.values())
    assert replay.digest.hexdigest() == digest.hexdigest()


def take_in(live: Stages, event: Any) -> None:
    if isinstance(event, dict):
        live.session(event)
    elif isinstance(event.what, Link):
        live.attribution.link(event.what, event.at)
    elif event.what.user_id is not None:
        live.attribution.erase_user(event.what.user_id, event.at)
        live.users.erase_user(event.what.user_id, event.at)
    else:
        live.attribution.erase_visitor(event.what.visitor_id, event.at)
        live.users.erase_visitor(event.what.visitor_id, event.at)


def test_a_record_counts_from_the_event_that_made_it() -> None:
    anonymous = session(1, "va", START)
    link = IdentityEvent(START + DAY, 0, Link("va", "u1", True, 0.5))
    second = session(2, "va", START + 2 * DAY, "u2")
    _, rows = replayed(shown(anonymous, second), [link])
    found = {
        (row.as_of - START, row.user_id): row.message and codec.decode(row.message)[1]["session_id"]
        for row in rows
    }
    assert found == {(DAY, "u1"): "s001", (2 * DAY, "u1"): None, (2 * DAY, "u2"): "s002"}


def test_at_the_same_moment_erasures_come_first_then_links_then_sessions() -> None:
    link = IdentityEvent(START, 0, Link("va", "u1", True, 1.0))
    erasure = IdentityEvent(START, 0, Erased("vb", None))
    first, second = shown(session(1, "va", START)), shown(session(2, "vb", START), number=1)
    assert list(in_order(second, first, [link], [erasure])) == [erasure, link, *first, *second]


def test_partitions_have_their_own_copies_of_links() -> None:
    """A link counts from the moment at which it came to the partition of the visitor."""
    copies = [IdentityEvent(START + at, at, Link("va", "u1", True, 1.0)) for at in (0, 1, 2)]
    seen = shown(session(1, "va", START - DAY), number=1)
    replay, rows = replayed(seen, copies, partitions=3)
    assert [(row.as_of, row.user_id) for row in rows] == [(START + 1, "u1")]
    assert replay.counts.link == replay.counts.total == 1


def test_customers_of_several_partitions_have_one_record() -> None:
    seen = [shown(session(n, f"v{n}", START + n, "u1"), number=n) for n in range(3)]
    _, rows = replayed(*seen, partitions=3)
    assert [codec.decode(row.message or b"")[1]["visitors"] for row in rows] == [1, 2, 3]


def test_an_erasure_of_nobody_known_gives_no_row() -> None:
    _, rows = replayed([IdentityEvent(START, 0, Erased(None, "u1"))])
    assert rows == []
