"""What each kind of client is allowed."""

from __future__ import annotations

import pytest

from streamer.kafka.acls import ROLES, Role, acls_of
from streamer.settings import Settings, load_settings

LINKS, USERS = "web.identity-links.v1", "web.user-intents.v1"


def allowed(role: Role, topic: str, settings: Settings | None = None) -> set[str]:
    return {acl.operation for acl in acls_of(role, settings or Settings()) if acl.name == topic}


@pytest.mark.parametrize(
    ("role", "links", "users"),
    [
        ("worker", {"Read"}, {"Write"}),
        ("producer", set(), set()),
        ("consumer", set(), {"Read"}),
        ("server", set(), {"Read"}),
        ("viewer", set(), {"Read"}),
        ("linker", {"Write"}, set()),
        ("replay", {"Read"}, {"Read"}),
        (
            "admin",
            {"Create", "Alter", "DescribeConfigs", "Read", "Write"},
            {"Create", "Alter", "DescribeConfigs", "Read"},
        ),
    ],
)
def test_who_may_say_who_a_visitor_is_and_who_may_read_of_customers(
    role: Role, links: set[str], users: set[str]
) -> None:
    assert allowed(role, LINKS) == links
    assert allowed(role, USERS) == users


def test_the_worker_reads_and_writes_what_is_between_its_stages() -> None:
    settings = Settings()
    for topic in (settings.user_changes, settings.attribution_changelog, settings.users_changelog):
        assert allowed("worker", topic) == {"Read", "Write"}
        assert not allowed("consumer", topic)
    assert "Read" in allowed("worker", settings.topics.visitors)


def test_a_worker_that_writes_clicks_by_visitor_may() -> None:
    settings = load_settings(overrides={"clicks.keyed": False}, environ={})
    for topic in settings.of_repartition:
        assert allowed("worker", topic, settings) == {"Read", "Write"}
        assert "Create" in allowed("admin", topic, settings)
        assert not allowed("worker", topic)
    assert allowed("worker", settings.topics.clicks, settings) == {"Read"}
    assert allowed("replay", settings.clicks_by_visitor, settings) == {"Read"}
    groups = {acl.name for acl in acls_of("worker", settings) if acl.resource == "group"}
    assert f"{settings.app.id}-repartition" in groups


@pytest.mark.parametrize("role", ROLES)
def test_without_identity_nobody_needs_its_topics(role: Role) -> None:
    without = load_settings(overrides={"identity.enabled": False}, environ={})
    for topic in (LINKS, USERS, without.user_changes, without.attribution_changelog, without.users_changelog):
        assert not allowed(role, topic, without)
