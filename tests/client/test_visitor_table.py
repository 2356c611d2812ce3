"""The latest of each visitor, as the topic would have it after compaction, and nothing that is too old."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamer.client import VisitorTable
from streamer.client.table import Reason
from tests.client.records import NOW_MS, a_message, a_record

TTL_MS = 1000


def table(*messages: tuple[bytes, bytes | None], **options: Any) -> VisitorTable:
    made = VisitorTable(TTL_MS, **options)
    for key, value in messages:
        made.apply(key, value)
    return made


def test_what_was_published_is_told() -> None:
    state = table(a_message("v")).get("v", NOW_MS)
    assert state is not None
    assert (state.top_intent, state.intents[0].label, state.probability_of("loans")) == (
        "cards",
        "credit / cards",
        0.25,
    )
    assert state.probability_of("homes") == 0
    assert state.vector.tolist() == [1.0, 0.5]


def test_memberships_are_for_callers_that_name_their_prototypes() -> None:
    told = {"memberships": [0.25, 0.75], "prototypes_version": "0a1b2c3d4e5f"}
    state = table(a_message("v", **told)).get("v", NOW_MS)
    assert state is not None
    shares = state.memberships_for("0a1b2c3d4e5f")
    assert shares is not None
    assert shares.tolist() == [0.25, 0.75]
    assert state.memberships_for("ffffffffffff") is None
    without = table(a_message("v")).get("v", NOW_MS)
    assert without is not None
    assert without.memberships_for("0a1b2c3d4e5f") is None


def test_reasons_are_told_where_they_are_published() -> None:
    reason = {"click": 2, "event_id": "e", "event_type": "view", "page_type": None, "contribution": 0.5}
    for told, expected in ((None, None), ([], ()), ([reason], (Reason(2, "e", "view", None, 0.5),))):
        state = table(a_message("v", reasons=told)).get("v", NOW_MS)
        assert state is not None
        assert state.reasons == expected


def test_unknown_visitors_are_none() -> None:
    assert table().get("v", NOW_MS) is None


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_latest_is_the_one_that_closed_last_however_records_come(
    order: tuple[int, ...],
) -> None:
    messages = [a_message("v", NOW_MS - 2), a_message("v", NOW_MS - 1), a_message("v", NOW_MS)]
    state = table(*(messages[place] for place in order)).get("v", NOW_MS)
    assert state is not None
    assert state.closed_at == NOW_MS


def test_a_later_revision_replaces_an_earlier_one_and_not_the_other_way_round() -> None:
    early, final = a_message("v", is_final=False), a_message("v", revision=1)
    for messages in ((early, final), (final, early)):
        state = table(*messages).get("v", NOW_MS)
        assert state is not None
        assert state.is_final


@pytest.mark.parametrize(("age_ms", "told"), [(TTL_MS, True), (TTL_MS + 1, False)])
def test_what_closed_longer_ago_than_the_time_to_live_is_not_told(age_ms: int, told: bool) -> None:
    assert (table(a_message("v")).get("v", NOW_MS + age_ms) is not None) is told


def test_what_is_too_old_is_forgotten() -> None:
    made = table(a_message("a", NOW_MS - 500), a_message("b"), a_message("a", NOW_MS + 10))
    assert made.expire(NOW_MS + TTL_MS + 1) == 1
    assert len(made) == 1
    assert made.get("a", NOW_MS) is not None


def test_what_is_too_old_is_forgotten_also_behind_what_is_newer_in_another_partition() -> None:
    made = table(a_message("new"), a_message("old", NOW_MS - TTL_MS - 1), a_message("edge", NOW_MS - TTL_MS))
    assert made.expire(NOW_MS) == 1
    assert len(made) == 2
    assert made.expire(NOW_MS + 1) == 1
    assert made.expire(NOW_MS + 1) == 0
    assert made.get("new", NOW_MS) is not None


def test_a_tombstone_erases_at_once() -> None:
    made = table(a_message("v"), a_message("w"), (b"v", None), (b"unknown", None))
    assert made.get("v", NOW_MS) is None
    assert len(made) == 1


def test_a_vector_of_another_space_is_no_vector_and_a_new_space_is_told() -> None:
    seen: list[str] = []
    made = table(a_message("v"), a_message("w", embedding_space="next"), on_new_space=seen.append)
    assert seen == ["space", "next"]
    assert made.spaces == {"space": 1, "next": 1}
    state = made.get("w", NOW_MS)
    assert state is not None
    assert state.embedding_for("space") is None
    assert state.embedding_for("next") is not None


def test_records_that_are_none_of_ours_are_counted_and_change_nothing() -> None:
    made = table((b"v", b"?"), (b"v", b"\0\0\0\0\1"), a_message("v"))
    assert made.refused == 2
    assert len(made) == 1


def test_after_many_updates_it_equals_the_compacted_topic() -> None:
    dice = random.Random(1)
    log = []
    for n in range(3000):
        visitor = f"v{dice.randrange(300)}"
        log.append((visitor, None) if dice.random() < 0.05 else (visitor, NOW_MS + n))
    made = table(*((v.encode(), None) if at is None else a_message(v, at) for v, at in log))
    compacted = dict(log)
    for visitor, at in compacted.items():
        state = made.get(visitor, NOW_MS)
        assert (state and state.closed_at) == at
    assert len(made) == sum(at is not None for at in compacted.values())


def test_a_record_of_a_visitor_has_all_fields_of_the_schema() -> None:
    from streamer.schemas import codec

    assert not codec.misfits("visitor_intent", a_record("v"))
