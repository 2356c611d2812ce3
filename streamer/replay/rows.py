"""Sessions as rows of a parquet file: one row a session and bundle, with the session's kept clicks.

Columns are the fields of the session, of its embedding and of its intents, named as in the Avro records,
and `clicks`. So one file serves training (the clicks), comparison of bundles, and joins on `closed_at`.
Files are written and read a row group at a time: none is ever held whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamer.errors import UsageError
from streamer.models.arrays import Float32
from streamer.models.bundle import Bundle
from streamer.models.leave_out import Reason
from streamer.models.scorer import ScoredIntent
from streamer.output_file import output_file
from streamer.parquet_rows import opened
from streamer.replay.scoring import BundleOutput, ScoredSession
from streamer.schemas.click import ROW_FIELDS, Click, Session

ROW_GROUP = 4096
"""Rows of a group; with clicks about 5 MB in memory."""

_TEXT, _MS = pa.string(), pa.int64()
_CLICK_TYPES = {"timestamp": _MS, "dwell_ms": _MS, "price": pa.float64(), "extras": pa.map_(_TEXT, _TEXT)}
_CLICK_FIELDS = [pa.field(each.name, _CLICK_TYPES.get(each.name, _TEXT)) for each in fields(Click)]
_INTENT_TEXTS = ("intent_id", "label", "parent")
_INTENT_FIELDS = [
    pa.field(name, _TEXT if name in _INTENT_TEXTS else pa.float32())
    for name in ScoredIntent.__struct_fields__
]
_REASON_FIELDS = [
    pa.field("click", pa.int32()),
    pa.field("event_id", _TEXT),
    pa.field("event_type", _TEXT),
    pa.field("page_type", _TEXT),
    pa.field("contribution", pa.float32()),
]
_SESSION_TYPES = {
    "started_at": _MS,
    "ended_at": _MS,
    "closed_at": _MS,
    "event_count": pa.int32(),
    "is_bot": pa.bool_(),
    "is_final": pa.bool_(),
    "revision": pa.int32(),
}
SCHEMA = pa.schema(
    [
        *(pa.field(name, _SESSION_TYPES.get(name, _TEXT)) for name in ROW_FIELDS),
        pa.field("rules_version", _TEXT),
        pa.field("model_version", _TEXT),
        pa.field("embedding", pa.list_(pa.float32())),
        pa.field("embedding_space", _TEXT),
        pa.field("memberships", pa.list_(pa.float32())),
        pa.field("prototypes_version", _TEXT),
        pa.field("taxonomy_version", _TEXT),
        pa.field("intents", pa.list_(pa.struct(_INTENT_FIELDS))),
        pa.field("top_intent", _TEXT),
        pa.field("abstained", pa.bool_()),
        pa.field("abstain_reason", _TEXT),
        pa.field("reasons", pa.list_(pa.struct(_REASON_FIELDS))),
        pa.field("clicks", pa.list_(pa.struct(_CLICK_FIELDS))),
    ]
)

_OF_LABELS = ["session_id", "revision", "supersedes", "embedding", "embedding_space", "intents", "top_intent"]
_OF_SESSIONS = [*ROW_FIELDS, "clicks", "model_version"]
_Row = tuple[Session, Bundle, BundleOutput]


def table_of(scored: Iterable[ScoredSession], bundles: Sequence[Bundle], rules_version: str) -> pa.Table:
    """Rows of scored sessions, by session, then by bundle."""
    rows: list[_Row] = [
        (each.session, bundle, output)
        for each in scored
        for bundle, output in zip(bundles, each.outputs, strict=True)
        if output is not None
    ]
    columns: dict[str, Any] = {name: [getattr(row[0], name) for row in rows] for name in ROW_FIELDS}
    columns["rules_version"] = [rules_version] * len(rows)
    columns["model_version"] = [bundle.model_version for _, bundle, _ in rows]
    columns["embedding"] = _embeddings(rows)
    columns["embedding_space"] = [bundle.embedding_space for _, bundle, _ in rows]
    columns["memberships"] = [row[2].scored.memberships for row in rows]
    columns["prototypes_version"] = [
        bundle.prototypes.version if bundle.prototypes and output.scored.memberships is not None else None
        for _, bundle, output in rows
    ]
    columns["taxonomy_version"] = [bundle.taxonomy.version for _, bundle, _ in rows]
    columns["intents"] = _structs([row[2].scored.intents for row in rows], _INTENT_FIELDS)
    for name in ("top_intent", "abstained", "abstain_reason"):
        columns[name] = [getattr(row[2].scored, name) for row in rows]
    columns["reasons"] = [_reasons(row[2].scored.reasons) for row in rows]
    columns["clicks"] = _structs([row[0].clicks for row in rows], _CLICK_FIELDS)
    return pa.table([_array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def write_rows(path: Path, table: pa.Table) -> None:
    """Write a file of its own. Raises OutputError."""
    with output_file(path) as file:
        pq.write_table(table, file, compression="zstd", row_group_size=ROW_GROUP)


def join_rows(parts: Iterable[Path], out: Path, beside: Path | None = None) -> int:
    """Write the rows of all parts, in order, to one file; returns how many. Raises OutputError.

    `beside`: where it is until it is whole. Row groups are cut anew, so the file's bytes don't depend on
    where the parts were cut.
    """
    count = 0
    with output_file(out, beside) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        for group in _regrouped(parts):
            writer.write_table(group, row_group_size=ROW_GROUP)
            count += group.num_rows
    return count


class LastRevisions:
    """Tells the last record of each session of a file from those whose place it has taken."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._latest: dict[str, int] = {}
        """Revision of sessions that have more than the first record."""
        self._replaced: set[str] = set()
        """Sessions that others have taken the place of."""
        for batch in file.iter_batches(ROW_GROUP, columns=["session_id", "revision", "supersedes"]):
            revised = batch.filter(pc.greater(batch.column("revision"), 0))
            for row in revised.to_pylist():
                session_id, supersedes = row["session_id"], row["supersedes"]
                self._latest[session_id] = max(row["revision"], self._latest.get(session_id, 0))
                if supersedes is not None and supersedes != session_id:
                    self._replaced.add(supersedes)

    def has(self, session_id: str, revision: int) -> bool:
        """Whether a session's record is its last one."""
        return session_id not in self._replaced and revision >= self._latest.get(session_id, 0)


def sessions_of_rows(path: Path) -> Iterator[Session]:
    """The sessions of a file, each once, as its last revision; a row group at a time. Raises UsageError for
    another file."""
    require_rows(path)
    with opened(path) as file:
        last = LastRevisions(file)
        first: str | None = None
        for batch in file.iter_batches(ROW_GROUP, columns=_OF_SESSIONS):
            for row in batch.to_pylist():
                # With several bundles a session has several rows.
                model = row.pop("model_version")
                first = first or model
                if model == first and last.has(row["session_id"], row["revision"]):
                    yield session_of_row(row)


def session_of_row(row: dict[str, Any]) -> Session:
    """From a session's columns as Python has them; files of earlier versions have no extras of clicks."""
    clicks = []
    for click in row.pop("clicks"):
        extras = click.pop("extras", None)
        clicks.append(Click(**click, extras=None if extras is None else dict(extras)))
    return Session(**row, clicks=clicks)


class LabelledRows(NamedTuple):
    """Labelled sessions of one embedding space, N of them."""

    session_ids: list[str]
    labels: list[str]
    """Of the top intents, for people."""
    embeddings: Float32
    """[N, D]"""


def labelled_rows(path: Path, embedding_space: str) -> Iterator[LabelledRows]:
    """The labelled sessions of a file, a row group at a time. Raises UsageError for another file, and for one
    that has no session in this embedding space."""
    spaces: set[str] = set()
    with opened(path) as file:
        require_columns(path, file, _OF_LABELS)
        last = LastRevisions(file)
        for batch in file.iter_batches(ROW_GROUP, columns=_OF_LABELS):
            rows = batch.to_pylist()
            spaces |= {row["embedding_space"] for row in rows}
            kept = [
                row
                for row in rows
                if row["top_intent"]
                and row["embedding_space"] == embedding_space
                and last.has(row["session_id"], row["revision"])
            ]
            if kept:
                yield LabelledRows(
                    [row["session_id"] for row in kept],
                    [row["intents"][0]["label"] for row in kept],
                    np.array([row["embedding"] for row in kept], np.float32),
                )
    if spaces and embedding_space not in spaces:
        raise UsageError(
            f"{path}: has embeddings of space {', '.join(sorted(spaces))}, the bundle's is {embedding_space}:"
            " vectors of two spaces can't be compared. Expected what `streamer replay` wrote with this bundle"
        )


def require_rows(path: Path) -> None:
    """Raises UsageError if it isn't a file of sessions."""
    with opened(path) as file:
        require_columns(path, file, _OF_SESSIONS)


def has_rows(path: Path) -> bool:
    """Whether it is a file of sessions. Raises UsageError if it isn't readable as parquet."""
    with opened(path) as file:
        return {*_OF_SESSIONS} <= {*file.schema_arrow.names}


def require_columns(path: Path, file: pq.ParquetFile, names: Iterable[str]) -> None:
    missing = [name for name in names if name not in file.schema_arrow.names]
    if missing:
        raise UsageError(f"{path}: no column {missing[0]}; expected what `streamer replay` writes")


def _regrouped(parts: Iterable[Path]) -> Iterator[pa.Table]:
    """Tables of ROW_GROUP rows, the last one shorter."""
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(ROW_GROUP):
                waiting.append(batch)
                rows += batch.num_rows
                while rows >= ROW_GROUP:
                    table = pa.Table.from_batches(waiting, SCHEMA)
                    yield table.slice(0, ROW_GROUP).combine_chunks()
                    waiting = table.slice(ROW_GROUP).to_batches()
                    rows -= ROW_GROUP
    if rows:
        yield pa.Table.from_batches(waiting, SCHEMA).combine_chunks()


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _embeddings(rows: Sequence[_Row]) -> pa.Array:
    vectors = [row[2].scored.embedding for row in rows]
    flat = np.concatenate(vectors) if vectors else np.zeros(0)
    return pa.ListArray.from_arrays(_offsets(vectors), pa.array(flat.astype(np.float32)))


def _reasons(told: Sequence[Reason] | None) -> list[dict[str, Any]] | None:
    return None if told is None else [msgspec.structs.asdict(each) for each in told]


def _structs(lists: Sequence[Sequence[Any]], kept: list[pa.Field]) -> pa.Array:
    """A list of structs a row, built by column: ten times as fast as from dicts."""
    items = [item for each in lists for item in each]
    arrays = [_column([getattr(item, field.name) for item in items], field.type) for field in kept]
    return pa.ListArray.from_arrays(_offsets(lists), pa.StructArray.from_arrays(arrays, fields=kept))


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_map(kind):
        values = [None if value is None else list(value.items()) for value in values]
    return pa.array(values, kind)


def _offsets(lists: Sequence[Any]) -> pa.Array:
    return pa.array([0, *accumulate(map(len, lists))], pa.int32())
