"""Rows of a replay, made up: sessions with labels and vectors by bundle, written as a replay writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from streamer.replay.options import users_beside
from streamer.replay.rows import SCHEMA
from streamer.replay.user_rows import SCHEMA as USERS_SCHEMA

HOUR_MS = 3_600_000


def a_row(session: str, model: str, label: str | None = "cards", **fields: Any) -> dict[str, Any]:
    """A session that closed at hour 10; `label` None: abstained."""
    row: dict[str, Any] = {
        "session_id": session,
        "visitor_id": f"v-{session}",
        "user_id": None,
        "started_at": 9 * HOUR_MS,
        "ended_at": 9 * HOUR_MS + 60_000,
        "closed_at": 10 * HOUR_MS,
        "event_count": 1,
        "close_reason": "gap",
        "is_bot": False,
        "is_final": True,
        "revision": 0,
        "supersedes": None,
        "rules_version": "r",
        "model_version": model,
        "embedding": [1.0, 0.0],
        "embedding_space": "space",
        "taxonomy_version": "1",
        "intents": [{"intent_id": label, "label": label or "x", "parent": None, "probability": 0.5}],
        "top_intent": label,
        "abstained": label is None,
        "abstain_reason": None if label else "novel",
        "clicks": [dict.fromkeys(("timestamp",), 1) | {"event_id": "e", "event_type": "x", "path": "/cards"}],
    }
    return row | fields


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, row_group_size=3)
    return path


def write_users(beside: Path, rows: list[dict[str, Any]]) -> Path:
    """The file of customers beside the one of sessions."""
    pq.write_table(pa.Table.from_pylist(rows, USERS_SCHEMA), users_beside(beside))
    return beside


def a_summary(*models: str) -> dict[str, Any]:
    """Of the replay that wrote the rows: what the report takes from it."""
    return {
        "source": "file:x",
        "from": None,
        "to": None,
        "rules_version": "r",
        "clicks": {"read": 1},
        "sessions": {"selected": 1},
        "bundles": [{"model_version": model} for model in models],
    }
