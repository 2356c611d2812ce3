"""Topics are created once, never altered, and compared with what is declared."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from streamer.kafka.topics import (
    Topic,
    TopicError,
    _wait_until_visible,
    create_topics,
    declared_topics,
    find_drift,
    find_topic,
)
from streamer.settings import Replication, Settings, load_settings
from tests.conftest import FreshSettings, RunStreamer


def config_of(settings: Settings, name: str) -> dict[str, str]:
    [topic] = [topic for topic in declared_topics(settings) if topic.name == name]
    return dict(topic.config)


def test_all_topics_have_the_same_partitions_and_replicas() -> None:
    settings = load_settings(overrides={"topics.partitions": 9, "topics.replication": 2}, environ={})
    topics = declared_topics(settings)
    assert len({topic.name for topic in topics}) == len(topics) >= 8
    assert {(topic.partitions, topic.replication) for topic in topics} == {(9, 2)}


def test_every_topic_has_the_clock_of_the_broker() -> None:
    topics = declared_topics(Settings())
    assert {topic.config["message.timestamp.type"] for topic in topics} == {"LogAppendTime"}


def test_clicks_keep_the_clock_of_their_producer_where_that_is_set() -> None:
    settings = load_settings(overrides={"clicks.arrival": "create_time"}, environ={})
    assert config_of(settings, "web.clicks.v1")["message.timestamp.type"] == "CreateTime"
    assert config_of(settings, settings.changelog)["message.timestamp.type"] == "LogAppendTime"


def test_clicks_that_are_not_keyed_are_written_to_a_topic_with_the_clock_of_the_broker() -> None:
    settings = load_settings(overrides={"clicks.keyed": False}, environ={})
    assert "message.timestamp.type" not in config_of(settings, "web.clicks.v1")
    assert config_of(settings, settings.clicks_by_visitor)["message.timestamp.type"] == "LogAppendTime"
    assert config_of(settings, settings.repartition_changelog)["cleanup.policy"] == "compact"
    sources = {topic.name for topic in declared_topics(settings) if topic.is_source}
    assert sources == {"web.clicks.v1", settings.clicks_by_visitor}


def test_changelog_is_kept_for_ever_and_can_be_trimmed() -> None:
    config = config_of(Settings(), "clicks-to-intent-sessions-changelog")
    assert (config["cleanup.policy"], config["retention.ms"]) == ("delete", "-1")


def test_visitors_are_compacted_and_forgotten_after_90_days() -> None:
    config = config_of(Settings(), "web.visitor-intents.v1")
    assert (config["cleanup.policy"], config["retention.ms"]) == ("compact,delete", "7776000000")


def test_every_session_of_a_visitor_is_there_for_a_week() -> None:
    assert config_of(Settings(), "web.visitor-intents.v1")["min.compaction.lag.ms"] == "604800000"


def test_records_of_customers_and_the_state_behind_them_are_compacted_and_kept() -> None:
    settings = Settings()
    for name in (settings.topics.users, settings.attribution_changelog, settings.users_changelog):
        assert config_of(settings, name)["cleanup.policy"] == "compact"


def test_links_are_kept_as_long_as_they_count() -> None:
    settings = load_settings(
        overrides={"identity.lookback_days": 1.5, "identity.history_days": 2}, environ={}
    )
    config = config_of(settings, "web.identity-links.v1")
    assert (config["cleanup.policy"], config["retention.ms"]) == ("delete", str(4 * 86_400_000))


def test_without_identity_its_topics_are_not_declared() -> None:
    without = load_settings(overrides={"identity.enabled": False}, environ={})
    of_identity = {topic.name for topic in declared_topics(Settings())} - {
        topic.name for topic in declared_topics(without)
    }
    assert of_identity == {
        "web.identity-links.v1",
        "web.user-intents.v1",
        "clicks-to-intent-user-changes",
        "clicks-to-intent-attribution-changelog",
        "clicks-to-intent-users-changelog",
    }


def test_erasures_are_compacted_and_kept() -> None:
    assert config_of(Settings(), "web.erasures.v1")["cleanup.policy"] == "compact"


@pytest.mark.parametrize("max_bytes", [1000, 262_144, 16 * 1024 * 1024])
def test_oversized_clicks_reach_the_worker_and_fit_as_dead_letters(max_bytes: int) -> None:
    settings = load_settings(overrides={"clicks.max_bytes": max_bytes}, environ={})
    clicks = int(config_of(settings, "web.clicks.v1")["max.message.bytes"])
    dlq = int(config_of(settings, "web.clicks-dlq.v1")["max.message.bytes"])
    assert max_bytes < clicks < dlq


@pytest.mark.parametrize(
    ("wanted", "brokers", "replicas"),
    [("auto", 1, 1), ("auto", 2, 2), ("auto", 3, 3), ("auto", 9, 3), (1, 3, 1), (5, 9, 5), (-1, 3, -1)],
)
def test_replicas_are_three_or_as_many_as_brokers_unless_set(
    wanted: Replication, brokers: int, replicas: int
) -> None:
    assert Topic("t", 1, wanted, {}).replicas(brokers) == replicas


@pytest.mark.parametrize(("replicas", "in_sync"), [(1, "1"), (2, "1"), (3, "2"), (5, "2"), (-1, None)])
def test_one_replica_may_be_missing_and_no_more(replicas: int, in_sync: str | None) -> None:
    assert Topic("t", 1, "auto", {}).config_for(replicas).get("min.insync.replicas") == in_sync


def test_what_create_makes_check_finds_as_declared(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    topics = declared_topics(settings)
    assert len(asyncio.run(find_drift(settings.kafka, topics))) == len(topics)
    assert sorted(asyncio.run(create_topics(settings.kafka, topics))) == sorted(each.name for each in topics)
    assert asyncio.run(create_topics(settings.kafka, topics)) == []
    assert asyncio.run(find_drift(settings.kafka, topics)) == []


def test_drift_names_topic_property_and_both_values(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 2})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    other = fresh_settings({"topics.partitions": 3, "clicks.max_bytes": 1_000_000})
    drift = [str(each) for each in asyncio.run(find_drift(settings.kafka, declared_topics(other)))]
    assert f"{settings.topics.late}: number of partitions is 2, expected 3" in drift
    assert f"{settings.topics.clicks}: max.message.bytes is 1048576, expected 2000000" in drift
    assert len(drift) == len(declared_topics(other)) + 1
    assert asyncio.run(create_topics(settings.kafka, declared_topics(other))) == []


def test_only_fewer_partitions_than_the_clicks_have_stop_a_worker(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 3})
    declared = declared_topics(settings)
    sizes = {settings.topics.late: 2, settings.topics.dlq: 4}
    topics = [replace(each, partitions=sizes.get(each.name, 3)) for each in declared]
    asyncio.run(create_topics(settings.kafka, topics))
    assert [str(each) for each in asyncio.run(find_drift(settings.kafka, declared))] == [
        f"{settings.topics.late}: number of partitions is 2, expected 3 (the worker refuses to start)",
        f"{settings.topics.dlq}: number of partitions is 4, expected 3",
    ]


def test_topics_grow_to_the_declared_number_of_partitions_and_never_shrink(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings, larger = fresh_settings({"topics.partitions": 2}), fresh_settings({"topics.partitions": 3})
    topics = declared_topics(settings)
    asyncio.run(create_topics(settings.kafka, topics))
    grown = run_streamer("topics", "grow", "--json", settings=larger)
    assert grown.returncode == 0, grown.stdout + grown.stderr
    names = json.loads(grown.stdout)["grown"]
    assert sorted(names) == sorted(topic.name for topic in topics)
    assert names[-1] == settings.topics.clicks  # no click is ever in a partition that an output lacks
    assert json.loads(run_streamer("topics", "grow", "--json", settings=larger).stdout)["grown"] == []
    smaller = run_streamer("topics", "grow", settings=settings)
    assert smaller.returncode == 1
    assert f"{settings.topics.clicks}: number of partitions is 3, expected 2" in smaller.stderr


def test_a_topic_of_others_keeps_its_number_of_partitions(
    fresh_settings: FreshSettings, run_streamer: RunStreamer
) -> None:
    settings = fresh_settings({"clicks.keyed": False})
    theirs = [replace(topic, partitions=3) for topic in declared_topics(settings) if topic.keeps_partitions]
    assert asyncio.run(create_topics(settings.kafka, theirs)) == [settings.topics.clicks]
    for command in ("create", "grow", "check"):
        done = run_streamer("topics", command, settings=settings)
        assert done.returncode == 0, done.stderr
    drift = asyncio.run(find_drift(settings.kafka, theirs))
    assert drift == []


def test_two_who_create_at_once_both_succeed(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    topics = declared_topics(settings)

    async def both() -> list[list[str]]:
        return list(await asyncio.gather(*(create_topics(settings.kafka, topics) for _ in range(2))))

    created = asyncio.run(both())
    assert sorted(created[0] + created[1]) == sorted(topic.name for topic in topics)


def test_refusal_of_the_cluster_is_told(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.replication": 5})
    with pytest.raises(TopicError, match=r"refused to create .*replication factor of 5"):
        asyncio.run(create_topics(settings.kafka, declared_topics(settings)))


def test_a_topic_that_is_not_there_is_named(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings()
    with pytest.raises(TopicError, match=f"no topic {settings.topics.clicks} .*streamer topics create"):
        asyncio.run(find_topic(settings.kafka, settings.topics.clicks))


def test_partitions_are_waited_for_until_every_broker_knows_them() -> None:
    """A fake, for how soon a broker hears of them can't be seen from outside."""

    answers = [{}, {"a": 1, "b": 1}, {"a": 3}, {"a": 3, "b": 1}]

    class Admin:
        async def partitions_everywhere(self) -> dict[str, int]:
            return answers.pop(0)

    asyncio.run(_wait_until_visible(Admin(), {"a": 3, "b": 1}))
    assert not answers
