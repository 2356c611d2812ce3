"""`streamer erase`: whom it takes, and what `--verify` finds by reading all topics."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streamer.errors import UsageError
from streamer.identity.attribution import AttributionStage
from streamer.identity.users import UserStage
from streamer.kafka.erase import checked_ids, listed_ids
from streamer.kafka.links_topic import write_links
from streamer.pipeline.erasures import Erased, erased_by
from streamer.rules_from_settings import identity_rules
from streamer.settings import Settings
from tests.client.records import NOW_MS, a_message
from tests.conftest import FreshSettings, RunStreamer
from tests.worker import live


@pytest.mark.parametrize(
    ("visitors", "reason"),
    [
        (["v", ""], "visitor 2 has 0 bytes"),
        (["v" * 257], "visitor 1 has 257 bytes, expected 1 to 256"),
        (["\udcff"], "visitor 1 is not UTF-8"),
    ],
)
def test_a_visitor_that_no_click_can_have_is_refused_unprinted(visitors: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        checked_ids(visitors, "visitor")
    assert "vv" not in str(caught.value)


def test_each_visitor_is_erased_once() -> None:
    assert checked_ids(["b", "a", "b"], "visitor") == ["b", "a"]


@pytest.mark.parametrize(
    "content",
    [
        b"anna\nbert\ncarla",
        "\ufeffanna\r\n\r\nbert\r\ncarla\r\n".encode(),
        "\ufeffanna\n\ufeffbert\ncarla\n".encode(),  # two lists, joined
        gzip.compress(b"anna\nbert\ncarla\n", mtime=0),
    ],
)
def test_a_list_names_the_same_visitors_however_it_was_saved(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    assert listed_ids(str(path), "visitor_id") == ["anna", "bert", "carla"]


@pytest.mark.parametrize(
    "line", ["bert ", " bert", "be\ufeffrt", "be\u00adrt", "bert\u200b", "bert\u2028", "bert\t", "anna\rbert"]
)
def test_a_list_is_refused_where_an_id_is_not_what_it_looks_like(tmp_path: Path, line: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(f"anna\n{line}\n".encode())
    with pytest.raises(UsageError, match=r"list.txt, line 2: has invisible characters, or spaces") as caught:
        listed_ids(str(path), "visitor_id")
    assert "bert" not in str(caught.value)


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("anna\nbert\n".encode("utf-16"))
    with pytest.raises(UsageError, match="is UTF-16; expected one visitor_id a line in UTF-8"):
        listed_ids(str(path), "visitor_id")
    path.write_bytes(b"anna\n\xe9ric\n")
    with pytest.raises(UsageError, match="line 2: is not UTF-8"):
        listed_ids(str(path), "visitor_id")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "nobody to erase: give --visitor, --file, --user or --users-file"),
        (["--visitor", "v", "--with-visitors"], "--with-visitors needs --user or --users-file"),
        (["--user", ""], "customer 1 has 0 bytes"),
        (["--user", "u", "--with-visitors"], "--with-visitors needs identity.enabled"),
    ],
)
def test_a_wrong_call_is_refused(run_streamer: RunStreamer, arguments: list[str], reason: str) -> None:
    done = run_streamer("--set", "identity.enabled=false", "erase", *arguments)
    assert (done.returncode, reason in done.stderr) == (2, True), done.stderr


def test_verify_reads_all_topics(fresh_settings: FreshSettings, run_streamer: RunStreamer) -> None:
    settings = fresh_settings()
    clicks = live.some_clicks(30, seed=31)
    live.set_up(settings)
    live.send(settings, [*live.as_messages(clicks), (b"v3", b"garbage")])
    in_clicks = sum(click["visitor_id"] in ("v3", "v4") for click in clicks) + 1

    def erase(*arguments: str, stdin: str = "") -> tuple[int, Any]:
        done = run_streamer("erase", *arguments, "--verify", "--json", settings=settings, stdin=stdin)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    worker = live.Worker(settings)
    live.wait_until(lambda: len(live.published(settings)) > 5)
    live.wait_until(lambda: live.committed(settings, settings.topics.dlq).records)
    code, now = erase("--visitor", "v3", "--visitor", "v4", "--dry-run")
    assert (code, now["moment"], now["taken_in"]) == (1, None, None)
    assert now["open_sessions"] + now["latest_intents"] > 0
    code, report = erase("--file", "-", stdin="v3\nv4\n")
    assert (code, report["visitors"], report["taken_in"]) == (0, 2, True), worker.log
    assert (report["open_sessions"], report["latest_intents"], report["unknown"]) == (0, 0, 0)
    left = {topic["topic"]: topic for topic in report["left"]}
    assert left[settings.topics.clicks]["records"] == in_clicks
    assert left[settings.topics.clicks]["kept_until"] > report["moment"]
    assert left[settings.topics.dlq]["records"] == 1
    assert left[settings.topics.late]["kept_until"] is None
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
    code, report = erase("--visitor", "v5", "--visitor", "v5 ", "--timeout", "0")
    assert (code, report["taken_in"], report["unknown"]) == (1, False, 1)


def attributed(settings: Settings, sessions: list[bytes], erasing: str | None = None) -> None:
    """Writes what the identity stages say of these sessions, and of the erasure of a customer after them."""
    rules = identity_rules(settings)
    ties, users = AttributionStage(rules), UserStage(rules)
    for message in sessions:
        ties.session(message)
    found, moment = ties.take(), NOW_MS + 1
    for user, change in found.changes:
        users.apply(user, change)
    states, taken = found.states, users.take()
    if erasing is not None:
        ties.erase_user(erasing, moment)
        users.erase_user(erasing, moment)
        states, taken = ties.take().states, users.take()

    async def publish() -> None:
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers) as producer:
            for topic, records in (
                (settings.attribution_changelog, states.items()),
                (settings.users_changelog, taken.states.items()),
                (settings.topics.users, taken.records),
            ):
                for key, value in records:
                    for partition in range(settings.topics.partitions if value is None else 1):
                        await producer.send_and_wait(topic, value, key=key.encode(), partition=partition)

    asyncio.run(publish())


def test_a_customer_is_erased_with_their_visitors_or_without(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings({"topics.partitions": 2, "identity.enabled": True})
    live.set_up(settings)
    sessions = [
        a_message("v1", user_id="u1")[1],
        a_message("v1", NOW_MS - 5)[1],
        a_message("v2", user_id="u2")[1],
    ]
    attributed(settings, sessions)
    link = {"visitor_id": "v3", "user_id": "u1", "action": "link", "confidence": 1.0, "source": None}
    taken_back = [link | {"visitor_id": "v4"}, link | {"visitor_id": "v4", "action": "unlink"}]
    asyncio.run(write_links(settings, [link, *taken_back]))

    def erase(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = run_streamer("erase", *arguments, "--json", settings=settings)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    code, now = erase("--user", "u1", "--verify", "--dry-run")
    assert (code, now["visitors"], now["users"]) == (1, 0, 1)
    # Of each of the customer's sessions, and of their browser's ties.
    assert (now["user_records"], now["identity_states"], now["unknown"]) == (1, 3, 0)
    left = {topic["topic"]: topic for topic in now["left"]}
    assert left[settings.topics.links]["records"] == 3 * 2
    assert left[settings.topics.links]["kept_until"] is not None
    assert left[settings.users_changelog]["kept_until"] is None
    code, now = erase("--visitor", "v1", "--verify", "--dry-run")
    assert (code, now["user_records"], now["identity_states"]) == (1, 1, 3)

    assert erase("--user", "u1", "--with-visitors")[1]["visitors"] == 2
    erasures = live.committed(settings, settings.topics.erasures).records
    assert {record.key for record in erasures} == {b"\0u1", b"v1", b"v3"}
    assert {(erased_by(record.value), record.partition) for record in erasures} == {
        (erased, partition)
        for erased in (Erased(user_id="u1"), Erased(visitor_id="v1"), Erased(visitor_id="v3"))
        for partition in (0, 1)
    }
    code, now = erase("--user", "u1", "--verify", "--timeout", "0")
    assert (code, now["taken_in"], now["user_records"]) == (1, False, 1)
    attributed(settings, sessions, erasing="u1")
    code, now = erase("--user", "u1", "--verify", "--dry-run")
    assert (code, now["user_records"], now["identity_states"]) == (0, 0, 0)
    assert erase("--user", "u2", "--verify", "--dry-run")[1]["user_records"] == 1


def test_a_running_worker_erases_a_customer_and_their_visitors(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings({"identity.enabled": True})
    live.set_up(settings)
    live.send(settings, live.as_messages(live.some_clicks(6, seed=34)))
    links = [
        {"visitor_id": visitor, "user_id": user, "action": "link", "confidence": 1.0, "source": None}
        for visitor, user in (("v1", "c1"), ("v2", "c1"), ("v3", "c3"))
    ]
    asyncio.run(write_links(settings, links))
    assert live.Worker(settings, "--drain").end() == 0
    worker = live.Worker(settings)

    def erase(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = run_streamer("erase", *arguments, "--verify", "--json", settings=settings)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    code, before = erase("--user", "c1", "--dry-run")
    assert (code, before["user_records"], before["unknown"]) == (1, 1, 0)
    code, report = erase("--user", "c1", "--with-visitors")
    assert (code, report["visitors"], report["users"], report["taken_in"]) == (0, 2, 1, True), worker.log
    assert (report["latest_intents"], report["user_records"], report["identity_states"]) == (0, 0, 0)
    assert erase("--user", "c3", "--dry-run")[1]["user_records"] == 1
    code, report = erase("--visitor", "v3")
    assert (code, report["taken_in"], report["user_records"]) == (0, True, 0), worker.log
    worker.signal(signal.SIGTERM)
    assert worker.end() == 0, worker.log
