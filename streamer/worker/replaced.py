"""Whether another process has taken a worker's place in a consumer group, as a static member (KIP-345)."""

from __future__ import annotations

from typing import Any

from streamer.errors import StreamerError
from streamer.settings import AppSettings
from streamer.worker.open_shards import OpenShards


class ReplacedError(StreamerError):
    """Another process has joined the group under this worker's instance id."""


def check_not_replaced(shards: OpenShards[Any], group: str, app: AppSettings) -> None:
    """Raises ReplacedError if another worker has taken this one's place in the group."""
    if shards.consumer is not None and shards.consumer.membership.replaced:
        raise ReplacedError(
            f"another worker has joined group {group} as app.instance_id={app.instance_id}: give each "
            "worker a name of its own"
        )
