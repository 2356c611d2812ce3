"""Feast's online store is what `streamer sink redis` keeps: read as it stands, and written by the sink alone.

So an erasure or a withdrawal goes from here as soon as the sink has read it, and there is nothing to
materialise. Records have to be hashes (`sink.redis.format`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import redis
from feast import FeatureView, RepoConfig
from feast.infra.key_encoding_utils import EntityKeyProto
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel
from feast.type_map import python_values_to_proto_values
from feast.value_type import ValueType

KIND_OF_ENTITY = {"visitor_id": "visitors", "user_id": "users"}
PARSERS = {
    ValueType.STRING: bytes.decode,
    ValueType.INT64: int,
    ValueType.BOOL: b"true".__eq__,
    ValueType.FLOAT_LIST: lambda stored: np.frombuffer(stored, "<f4").tolist(),
}


class SinkOnlineStoreConfig(FeastConfigBaseModel):
    """In feature_store.yaml."""

    type: Literal["sink_store.SinkOnlineStore"] = "sink_store.SinkOnlineStore"
    url: str = "redis://127.0.0.1:6379/0"
    prefix: str = "streamer"


class SinkOnlineStore(OnlineStore):
    """Raises redis.RedisError where the server is away."""

    _client: redis.Redis | None = None

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKeyProto],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """(closed_at, features) of each, None where the sink has no record."""
        types = {field.name: field.dtype.to_value_type() for field in table.features}
        wanted = {name: types[name] for name in requested_features or types}
        with self._connected(config).pipeline(transaction=False) as pipeline:
            for key in entity_keys:
                pipeline.hmget(_name_of(config, key), ["closed_at", *wanted])
            return [_features_of(values, wanted) for values in pipeline.execute()]

    def _connected(self, config: RepoConfig) -> redis.Redis:
        if self._client is None:
            self._client = redis.Redis.from_url(config.online_store.url)
        return self._client

    def online_write_batch(self, *_: Any, **__: Any) -> None:
        """Raises NotImplementedError."""
        raise NotImplementedError(
            "`streamer sink redis` writes these records; there is nothing to materialise"
        )

    def update(self, *_: Any, **__: Any) -> None:
        """Nothing: the sink makes what there is."""

    def teardown(self, *_: Any, **__: Any) -> None:
        """Nothing: what is there is the sink's."""


def _name_of(config: RepoConfig, key: EntityKeyProto) -> str:
    (entity,), (value,) = key.join_keys, key.entity_values
    return f"{config.online_store.prefix}:{KIND_OF_ENTITY[entity]}:{value.string_val}"


def _features_of(
    stored: Sequence[bytes | None], wanted: dict[str, ValueType]
) -> tuple[datetime | None, dict[str, Value] | None]:
    closed_at, *values = stored
    if closed_at is None:
        return None, None
    features = {}
    for value, (name, kind) in zip(values, wanted.items(), strict=True):
        (features[name],) = python_values_to_proto_values(
            [None if value is None else PARSERS[kind](value)], kind
        )
    return datetime.fromtimestamp(int(closed_at) / 1000, UTC), features
