"""What Feast knows of visitors and customers: offline from the lake, online from the sink's own records.

Event time is `closed_at`, when a session closed; of rows with the same one, the one recorded last counts.
"""

from __future__ import annotations

from datetime import timedelta

from feast import Entity, FeatureView, Field, FileSource
from feast.types import Array, Bool, Float32, Int64, String
from feast.value_type import ValueType

TTL = timedelta(days=90)
"""As `sink.redis.ttl_days`."""

visitor = Entity(name="visitor", join_keys=["visitor_id"], value_type=ValueType.STRING)
user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)


def lake(table: str) -> FileSource:
    """What from_lake.py has written."""
    return FileSource(
        name=table,
        path=f"data/{table}.parquet",
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )


OF_SESSIONS = [
    Field(name="session_id", dtype=String),
    Field(name="event_count", dtype=Int64),
    Field(name="top_intent", dtype=String),
    Field(name="abstained", dtype=Bool),
    Field(name="embedding", dtype=Array(Float32)),
    Field(name="embedding_space", dtype=String),
    Field(name="model_version", dtype=String),
]

visitor_intents = FeatureView(
    name="visitor_intents", entities=[visitor], ttl=TTL, schema=OF_SESSIONS, source=lake("sessions")
)
user_intents = FeatureView(
    name="user_intents",
    entities=[user],
    ttl=TTL,
    schema=[*OF_SESSIONS, Field(name="profile_embedding", dtype=Array(Float32))],
    source=lake("users"),
)
