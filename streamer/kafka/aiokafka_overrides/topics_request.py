"""The request for what a cluster knows of topics, in versions that aiokafka has no class for.

Version 8 says what the client may do with each topic (KIP-430), version 10 also gives each topic's id
(KIP-516). Both ask without creating a topic that is missing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

_UUID_BYTES = 16
_NO_ID = bytes(_UUID_BYTES)


class Uuid(AbstractType[bytes]):
    """16 bytes as they are."""

    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_UUID_BYTES)


class TopicsResponse_v8(Response):  # noqa: N801, the names are aiokafka's
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(("node_id", Int32), ("host", String()), ("port", Int32), ("rack", String())),
        ),
        ("cluster_id", String()),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", String()),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("authorized_operations", Int32),
            ),
        ),
        ("cluster_authorized_operations", Int32),
    )


class TopicsResponse_v10(Response):  # noqa: N801
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString()),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class TopicsRequest_v8(RequestStruct):  # noqa: N801
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = TopicsResponse_v8
    SCHEMA = Schema(
        ("topics", Array(String())),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class TopicsRequest_v10(RequestStruct):  # noqa: N801
    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = TopicsResponse_v10
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", Uuid), ("topic", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicsRequest(Request[TopicsRequest_v8 | TopicsRequest_v10]):
    """Metadata of these topics, with a bit for each operation that is allowed."""

    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(
        self, request_struct_class: type[TopicsRequest_v8 | TopicsRequest_v10]
    ) -> TopicsRequest_v8 | TopicsRequest_v10:
        if request_struct_class is TopicsRequest_v10:
            return TopicsRequest_v10([(_NO_ID, topic, {}) for topic in self._topics], False, False, True, {})
        return request_struct_class(self._topics, False, False, True)


class TopicAnswer(NamedTuple):
    """What a response says of one topic."""

    name: str
    error_code: int
    topic_id: str
    """As Kafka's tools print it; empty where the cluster gives none."""
    partitions: int
    operations: int
    """A bit for each operation that is allowed."""


def answers_of(response: Any) -> Iterator[TopicAnswer]:
    """One answer for each topic of a response of either version."""
    for topic in response.topics:
        if response.API_VERSION == TopicsResponse_v8.API_VERSION:
            code, name, _, partitions, operations = topic
            topic_id = _NO_ID
        else:
            code, name, topic_id, _, partitions, operations, _ = topic
        yield TopicAnswer(name, code, _printed(topic_id), len(partitions), operations)


def _printed(topic_id: bytes) -> str:
    return "" if topic_id == _NO_ID else base64.urlsafe_b64encode(topic_id).rstrip(b"=").decode()
