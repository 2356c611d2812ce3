"""Customers' records as a table, and as a view on a real broker."""

from __future__ import annotations

import asyncio
import time

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewPartitions

from streamer.client import UserTable, UserView, VisitorView
from streamer.kafka.partitions import hash_of
from streamer.kafka.topics import admin_client, create_topics, declared_topics
from streamer.settings import Settings
from tests.client.records import NOW_MS, a_message, a_record, a_user
from tests.client.test_visitor_view import wait_for
from tests.conftest import FreshSettings


def table(*messages: tuple[bytes, bytes | None]) -> UserTable:
    made = UserTable(10**15)
    for message in messages:
        made.apply(*message)
    return made


def test_another_partition_cant_take_away_a_customer_who_is_back_after_an_erasure() -> None:
    home = hash_of(b"u") % 4
    assert [number for number in range(4) if UserView.may_erase(b"u", number, 4)] == [home]
    assert all(VisitorView.may_erase(b"u", number, 4) for number in range(4)), (
        "clicks may be keyed in any way"
    )


def test_a_record_is_read_whole() -> None:
    state = table(a_user("u", a_record("v", NOW_MS), a_record("w", NOW_MS - 5))).get("u", NOW_MS)
    assert state is not None
    assert (state.user_id, state.latest.visitor_id, state.closed_at) == ("u", "v", NOW_MS)
    assert (state.attribution, state.confidence, state.sessions, state.visitors) == ("link", 0.5, 2, 2)
    assert [each.closed_at for each in state.history] == [NOW_MS, NOW_MS - 5]
    assert [(each.intent_id, each.probability) for each in state.profile] == [
        ("cards", 0.75),
        ("loans", 0.25),
    ]
    profile = state.profile_for("space")
    assert profile is not None
    np.testing.assert_allclose(profile, [1.0, 0.5], rtol=1e-6)
    assert state.profile_for("other") is None


def test_the_last_record_counts_even_if_its_session_is_older() -> None:
    later, earlier = a_user("u", a_record("v", NOW_MS)), a_user("u", a_record("w", NOW_MS - 5))
    state = table(later, earlier).get("u", NOW_MS)
    assert state is not None
    assert state.latest.visitor_id == "w"
    assert table(later, (b"u", None)).get("u", NOW_MS) is None


def test_a_visitors_record_is_no_customers() -> None:
    made = table(a_message("u"))
    assert (made.refused, made.get("u", NOW_MS)) == (1, None)


def test_a_view_has_what_was_there_and_follows_withdrawals(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 2, "identity.enabled": True})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    now = int(time.time() * 1000)
    publish(settings, a_user("u", a_record("v", now)), a_user("x", a_record("v", now)))
    with UserView(settings) as view:
        assert len(view) == 2
        publish(settings, a_user("u", a_record("w", now - 5)), (b"x", None))
        wait_for(lambda: view.get("x") is None)
        wait_for(lambda: (state := view.get("u")) and state.latest.visitor_id == "w")


class Inquisitive(UserView):
    asks_every_s = 0.2


def test_partitions_that_are_added_are_followed(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 1, "identity.enabled": True})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    now = int(time.time() * 1000)
    users = [f"u{n}" for n in range(8)]
    publish(settings, *(a_user(u, a_record("v", now)) for u in users))
    with Inquisitive(settings) as view, Inquisitive(settings, partitions=[0]) as share:
        asyncio.run(add_partitions(settings, 2))
        wait_for(lambda: view.partition_count == share.partition_count == 2)
        publish(settings, *(a_user(u, a_record("w", now)) for u in users))
        wait_for(lambda: {seen_in(view, u) for u in users} == {"w"})
        moved = {u for u in users if hash_of(u.encode()) % 2}
        assert 0 < len(moved) < len(users)
        wait_for(lambda: {u for u in users if seen_in(share, u) == "w"} == set(users) - moved)


def seen_in(view: UserView, user: str) -> str | None:
    state = view.get(user)
    return None if state is None else state.latest.visitor_id


async def add_partitions(settings: Settings, partitions: int) -> None:
    async with admin_client(settings.kafka) as admin:
        await admin.create_partitions({settings.topics.users: NewPartitions(partitions)})


def publish(settings: Settings, *messages: tuple[bytes, bytes | None]) -> None:
    async def run() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
            for key, value in messages:
                await producer.send_and_wait(settings.topics.users, value, key=key)

    asyncio.run(run())
