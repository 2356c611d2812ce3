"""Asking for a topic creates none, whatever the cluster's `auto.create.topics.enable` says.

aiokafka's clients ask with `allow_auto_topic_creation`, and have no setting for it: a misspelt name would
become a topic, with the cluster's number of partitions and CreateTime.
"""

from __future__ import annotations

from aiokafka.protocol.metadata import MetadataRequest


class MetadataRequestWithoutCreation(MetadataRequest):
    def __init__(self, topics: list[str] | None = None) -> None:
        super().__init__(topics, allow_auto_topic_creation=False)
