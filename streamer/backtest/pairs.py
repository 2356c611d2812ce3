"""The rows of a replay's file by session: what each bundle made of it, side by side, a group at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from streamer.errors import UsageError
from streamer.replay.rows import ROW_GROUP, opened

Row = dict[str, Any]
Sides = dict[str, Row]
"""Row by model_version; a bundle that could not score the session isn't in it."""

COLUMNS = (
    "session_id",
    "visitor_id",
    "started_at",
    "ended_at",
    "closed_at",
    "is_bot",
    "model_version",
    "embedding",
    "embedding_space",
    "taxonomy_version",
    "intents",
    "top_intent",
    "abstained",
    "abstain_reason",
)


def sessions_side_by_side(path: Path, columns: Sequence[str] = COLUMNS) -> Iterator[Sides]:
    """One entry a session, in the file's order. Raises UsageError if the file isn't one of a replay."""
    with opened(path) as file:
        missing = set(COLUMNS) - set(file.schema_arrow.names)
        if missing:
            raise UsageError(f"{path}: no column {min(missing)}; expected what `streamer replay` writes")
        rows = (
            row for batch in file.iter_batches(ROW_GROUP, columns=list(columns)) for row in batch.to_pylist()
        )
        # A replay writes all rows of a session one after the other.
        for _, of_session in groupby(rows, key=lambda row: (row["session_id"], row["closed_at"])):
            yield {row["model_version"]: row for row in of_session}


def label_of(row: Row) -> str:
    """The intent that the bundle named, in words, or why it named none."""
    if row["abstained"]:
        return f"({row['abstain_reason']})"
    return str(row["intents"][0]["label"])
