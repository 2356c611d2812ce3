"""Clicks of customers, links, and the records of customers on a real broker beside what the oracle says."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streamer.schemas import codec
from streamer.settings import Settings
from tests.identity import oracle
from tests.identity.oracle import DAY, Said
from tests.identity.stages import comparable, leaves
from tests.worker.live import START_MS, committed, some_clicks

ON = {"identity.enabled": True}


def recent_clicks(visitors: int, seed: int) -> list[dict[str, Any]]:
    """As `some_clicks`, of yesterday: a link says something of sessions within lookback of its arrival."""
    later = int(time.time() * 1000) - DAY - START_MS
    return [{**click, "timestamp": click["timestamp"] + later} for click in some_clicks(visitors, seed)]


def clicks_with_logins(visitors: int, seed: int) -> list[dict[str, Any]]:
    """Some visitors log in, always as the same customer but for one browser, which two share."""
    clicks = recent_clicks(visitors, seed)
    for click in clicks:
        number = int(click["visitor_id"][1:])
        second_half = int(click["event_id"][1:]) % 2
        if number % 4 == 0 and click["timestamp"] % 3 == 0:
            click["user_id"] = f"c{number % 8}"
        if number == 2 and second_half:
            click["user_id"] = "c0"
    return clicks


def say(settings: Settings, *links: dict[str, Any]) -> None:
    """Write links to every partition of their topic."""

    async def run() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers)
        await producer.start()
        try:
            for link in links:
                for partition in range(settings.topics.partitions):
                    await producer.send_and_wait(
                        settings.topics.links,
                        codec.encode("identity_link", link),
                        key=link["visitor_id"].encode(),
                        partition=partition,
                    )
        finally:
            await producer.stop()

    asyncio.run(run())


def said(settings: Settings) -> list[Said]:
    """The links as every shard reads them; times differ a little from partition to partition."""
    records = committed(settings, settings.topics.links).records
    links = [(record, codec.decode(record.value)[1]) for record in records if record.partition == 0]
    return [
        Said(r.timestamp, link["visitor_id"], link["user_id"], link["action"] == "link", link["confidence"])
        for r, link in links
    ]


def users(settings: Settings) -> dict[str, Any]:
    """The latest record of every customer who has one."""
    latest = {r.key.decode(): r.value for r in committed(settings, settings.topics.users).records}
    return {user: codec.decode(value)[1] for user, value in latest.items() if value is not None}


def some_links(clicks: Sequence[dict[str, Any]], chance: random.Random, at_most: int) -> list[dict[str, Any]]:
    """Of up to half of the visitors, each with one of eight customers; every fourth unlinks."""
    visitors = sorted({click["visitor_id"] for click in clicks})
    return [
        {
            "visitor_id": visitor,
            "user_id": f"c{chance.randrange(8)}",
            "action": chance.choice(("link", "link", "link", "unlink")),
            "confidence": chance.choice((0.25, 0.5, 1.0)),
        }
        for visitor in chance.sample(visitors, min(at_most, len(visitors) // 2))
    ]


def differing_users(settings: Settings, *erased: str) -> list[str]:
    """Customers whose latest record is not what the oracle says of sessions and links; raises AssertionError
    where it says nothing of anybody."""
    sessions = [
        record
        for record in committed(settings, settings.topics.visitors).records
        if record.value is not None and record.key.decode() not in erased
    ]
    final = [record for r in sessions if (record := codec.decode(r.value)[1])["is_final"]]
    expected = oracle.records(final, said(settings), oracle.Limits())
    assert expected
    found = comparable(users(settings))
    return [
        user
        for user in sorted(expected.keys() | found.keys())
        if leaves(found.get(user, {})) != pytest.approx(leaves(expected.get(user, {})), abs=1e-5)
    ]
