"""What the cluster forbids, in words: asked for before work begins, or read from a refusal.

A cluster says what a client may do with a topic or group that it may see (KIP-430), so a missing permission
is named at once instead of showing up as a failed commit later. Clusters without an authorizer allow all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from streamer.errors import StreamerError
from streamer.kafka.reach import connection
from streamer.settings import KafkaSettings

WHAT_TO_DO = "'streamer acls --print' lists what each client needs"
_BITS = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8, "DescribeConfigs": 10}
"""AclOperation codes of Kafka's protocol."""
_UNKNOWN = -(2**31)
"""A broker that doesn't say."""
_TOPIC_REFUSED, _GROUP_REFUSED, _TRANSACTIONAL_ID_REFUSED = 29, 30, 53
_TRANSACTION_COORDINATOR = 1


class NotPermittedError(StreamerError):
    """The cluster knows us and doesn't let us do this; trying again is no use."""


class Permission(Protocol):
    """What is asked for: Read on topic web.clicks.v1, say."""

    @property
    def resource(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def pattern(self) -> str:
        """`prefixed`: `name` is how names begin."""

    @property
    def operation(self) -> str: ...


def refusal(error: BaseException, doing: str) -> NotPermittedError | None:
    """The error for the user if an authorizer refused; None for any other. `doing`: "read topic x"."""
    from aiokafka import errors

    refused = (
        errors.TopicAuthorizationFailedError,
        errors.GroupAuthorizationFailedError,
        errors.ClusterAuthorizationFailedError,
        errors.TransactionalIdAuthorizationFailed,
    )
    if not isinstance(error, refused):
        return None
    return NotPermittedError(f"not permitted to {doing} ({type(error).__name__}): {WHAT_TO_DO}")


async def check_permissions(kafka: KafkaSettings, needed: Iterable[Permission]) -> None:
    """Returns if all is allowed. Raises NotPermittedError that names what is missing, and `BrokerError`.

    What isn't there yet can't be judged, and passes.
    """
    wanted = list(needed)
    missing = []
    async with connection(kafka) as link:
        for resource, ask in (
            ("topic", _missing_on_topics),
            ("group", _missing_on_groups),
            ("transactional-id", _missing_on_transactional_ids),
        ):
            of_kind = [permission for permission in wanted if permission.resource == resource]
            if of_kind:
                missing += await ask(link, of_kind)
    if missing:
        user = kafka.sasl_username or "this client"
        raise NotPermittedError(f"{user} lacks {', '.join(map(str, missing))}: {WHAT_TO_DO}")


async def _missing_on_topics(link: Any, needed: list[Permission]) -> list[Permission]:
    from streamer.kafka.aiokafka_overrides.topics_request import TopicsRequest, answers_of

    response = await link.send(TopicsRequest(sorted({permission.name for permission in needed})))
    allowed = {topic.name: (topic.error_code, topic.operations) for topic in answers_of(response)}
    return [p for p in needed if _lacks(p, *allowed.get(p.name, (0, _UNKNOWN)), refused=_TOPIC_REFUSED)]


async def _missing_on_groups(link: Any, needed: list[Permission]) -> list[Permission]:
    """The group's own broker answers; any broker refuses who may not see it."""
    from aiokafka.protocol.coordination import FindCoordinatorRequest

    missing = []
    for permission in needed:
        response = await link.send(FindCoordinatorRequest(permission.name, 0))
        if response.error_code == _GROUP_REFUSED:
            missing.append(permission)
    return missing


async def _missing_on_transactional_ids(link: Any, needed: list[Permission]) -> list[Permission]:
    from aiokafka.protocol.coordination import FindCoordinatorRequest

    missing = []
    for permission in needed:
        name = f"{permission.name}0" if permission.pattern == "prefixed" else permission.name
        response = await link.send(FindCoordinatorRequest(name, _TRANSACTION_COORDINATOR))
        if response.error_code == _TRANSACTIONAL_ID_REFUSED:
            missing.append(permission)
    return missing


def _lacks(permission: Permission, code: int, bits: int, *, refused: int) -> bool:
    if code == refused:
        return True
    return code == 0 and bits != _UNKNOWN and not bits >> _BITS[permission.operation] & 1
