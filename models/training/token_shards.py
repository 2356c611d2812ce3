"""Token shards: tokens of sessions on disk, ragged and memory-mapped, for more sessions than memory holds.

A folder has files of Arrow, some hundred thousand sessions each, and `shards.json`, written last: format, the
tokenizer's hash, and name, split, size and hash of every file. Sessions lie in the order in which they came;
a corpus has them in that of `by_split`, so what is trained on it has the bytes of training in memory. No text
of a click is in a shard: ids, times of dwelling, and hashes of visitors and queries.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from streamer.models.arrays import Bool, Float32, Int32, Int64
from streamer.models.encoded import LENGTH_BUCKETS, Encoded
from streamer.models.fields import EVENT_FIELDS, LEARNT_FIELDS, SESSION_FIELDS
from streamer.models.queries import QUERY_GRAMS, QUERY_SLOTS
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.corpus import Corpus, is_learnt_from
from streamer.models.training.encoder import Tokens
from streamer.models.training.errors import TrainingError
from streamer.models.visitor_splits import SplitName, split_of
from streamer.models.whole_file import whole_file, write_whole
from streamer.schemas.click import Session

FORMAT = 1
SESSIONS_PER_SHARD = 1 << 18
"""About 60 MB."""
_AT_ONCE = 4096
_INDEX = "shards.json"
_TIMES = len(EVENT_FIELDS) - len(LEARNT_FIELDS)
Splits = tuple[SplitName, ...]
LEARNT_FROM: Splits = ("train", "validation")


class ShardsError(TrainingError):
    """The folder's shards can't be trained on."""


@dataclass(frozen=True)
class ShardFile:
    name: str
    split: SplitName
    sessions: int
    clicks: int
    bytes: int
    sha256: str


def write_shards(
    sessions: Iterable[Session],
    tokenizer: Tokenizer,
    folder: Path,
    splits: Splits = LEARNT_FROM,
    per_shard: int = SESSIONS_PER_SHARD,
) -> TokenShards:
    """Holds one shard of each split in memory. What was in the folder is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    writers = {split: _Writer(folder, split, tokenizer, per_shard) for split in splits}
    waiting: dict[SplitName, list[Session]] = {split: [] for split in splits}
    for session in sessions:
        split = split_of(session.visitor_id)
        if split in waiting and is_learnt_from(session):
            waiting[split].append(session)
            if len(waiting[split]) == _AT_ONCE:
                writers[split].add(waiting[split])
                waiting[split] = []
    for split, writer in writers.items():
        writer.add(waiting[split])
        writer.close()
    files = [file for writer in writers.values() for file in writer.files]
    index = {"format": FORMAT, "tokenizer": _digest(tokenizer), "files": [asdict(file) for file in files]}
    write_whole(folder / _INDEX, (json.dumps(index, indent=1) + "\n").encode())
    return TokenShards(folder, tuple(files))


@dataclass(frozen=True)
class TokenShards:
    """The shards of a folder, all of them whole and of one tokenizer."""

    folder: Path
    files: tuple[ShardFile, ...]

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer) -> Self:
        """Raises ShardsError for shards of another tokenizer and for a torn shard."""
        path = folder / _INDEX
        try:
            index = json.loads(path.read_bytes())
            files = tuple(ShardFile(**file) for file in index["files"])
            found, made_by = index["format"], index["tokenizer"]
        except (OSError, ValueError, TypeError, KeyError):
            raise ShardsError(f"{path}: no index of token shards; {_AGAIN}") from None
        if found != FORMAT:
            raise ShardsError(f"{path}: format {found!r}, expected {FORMAT}; {_AGAIN}")
        if made_by != _digest(tokenizer):
            raise ShardsError(
                f"{path}: made by another tokenizer, of sha256 {made_by!s:.12}, expected"
                f" {_digest(tokenizer):.12}; {_AGAIN}"
            )
        for file in files:
            _check_whole(folder / file.name, file)
        return cls(folder, files)

    def count(self, split: SplitName) -> int:
        return sum(file.sessions for file in self.files if file.split == split)

    def corpus(self, split: SplitName, most: int | None = None) -> Corpus:
        """The split's sessions, or its first `most`, in the order of `by_split`."""
        shards = [_Shard(self.folder / file.name) for file in self.files if file.split == split]
        order = _in_order(shards)[:most]
        lengths = np.concatenate([np.zeros(0, np.int64), *(shard.lengths for shard in shards)])[order]
        bucket_of = np.searchsorted(LENGTH_BUCKETS, lengths)
        mapped = _Mapped(shards)
        buckets = []
        for number, width in enumerate(LENGTH_BUCKETS):
            rows = np.flatnonzero(bucket_of == number)
            if len(rows):
                buckets.append(MappedBucket(torch.from_numpy(rows), mapped, order[rows], width))
        return Corpus(len(order), tuple(buckets))


_AGAIN = "run the step 'fit' again"


def _digest(tokenizer: Tokenizer) -> str:
    return hashlib.sha256(tokenizer.to_json().encode()).hexdigest()


def _check_whole(path: Path, file: ShardFile) -> None:
    try:
        with path.open("rb") as content:
            size, digest = path.stat().st_size, hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise ShardsError(f"{path}: can't be read ({error.strerror}); {_AGAIN}") from None
    if size != file.bytes:
        raise ShardsError(f"{path}: torn: {size:,} bytes, expected {file.bytes:,}; {_AGAIN}")
    if digest != file.sha256:
        raise ShardsError(f"{path}: damaged: sha256 {digest:.12}, expected {file.sha256:.12}; {_AGAIN}")


def _schema(tokenizer: Tokenizer) -> pa.Schema:
    ids = pa.uint16() if max(tokenizer.sizes.values()) <= 1 << 16 else pa.uint32()
    click = pa.struct(
        [
            pa.field("values", pa.list_(ids, len(LEARNT_FIELDS)), nullable=False),
            pa.field("times", pa.list_(pa.uint8(), _TIMES), nullable=False),
            pa.field("dwell_z", pa.float32(), nullable=False),
            pa.field("query_slot", pa.uint8(), nullable=False),
        ]
    )
    if tokenizer.extras.columns:
        click = pa.struct(
            [*click, pa.field("extras", pa.list_(ids, tokenizer.extras.columns), nullable=False)]
        )
    columns = [
        ("started_at", pa.int64()),
        ("session_id", pa.uint64()),
        ("visitor", pa.int64()),
        ("session_ids", pa.list_(ids, len(SESSION_FIELDS))),
        ("clicks", pa.list_(pa.field("click", click, nullable=False))),
        ("queries", pa.list_(pa.list_(pa.uint16()))),
    ]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])


@dataclass
class _Writer:
    """Shards of one split."""

    folder: Path
    split: SplitName
    tokenizer: Tokenizer
    per_shard: int
    files: list[ShardFile] = field(default_factory=list)
    _batches: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, sessions: Sequence[Session]) -> None:
        rest = iter(sessions)
        while some := list(islice(rest, self.per_shard - self._waiting)):
            schema = _schema(self.tokenizer)
            self._batches += [_batch(some, encoded, schema) for encoded in self.tokenizer.encode(some)]
            if self._waiting == self.per_shard:
                self.close()

    def close(self) -> None:
        """Writes what has been added since the last shard."""
        if not self._batches:
            return
        name = f"{self.split}-{len(self.files):05}.arrow"
        table = pa.Table.from_batches(self._batches).combine_chunks()
        (batch,) = table.to_batches()
        with whole_file(self.folder / name) as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_batch(batch)
        path = self.folder / name
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        clicks = len(batch.column("clicks").values)
        size = path.stat().st_size
        self.files.append(ShardFile(name, self.split, len(batch), clicks, size, digest))
        self._batches = []

    @property
    def _waiting(self) -> int:
        return sum(map(len, self._batches))


def _batch(sessions: Sequence[Session], encoded: Encoded, schema: pa.Schema) -> pa.RecordBatch:
    """The sessions of one length bucket, without their padding."""
    own = [sessions[row] for row in encoded.rows.tolist()]
    lengths = encoded.lengths.astype(np.int64)
    at_click = np.arange(encoded.event_ids.shape[1]) < lengths[:, None]
    events = encoded.event_ids[at_click]
    kinds = schema.field("clicks").type.value_type
    fields_of_click = [
        _rows(events[:, : len(LEARNT_FIELDS)], kinds.field("values").type),
        _rows(events[:, len(LEARNT_FIELDS) : len(EVENT_FIELDS)], kinds.field("times").type),
        pa.array(encoded.dwell_z[at_click]),
        pa.array(encoded.query_slot[at_click].astype(np.uint8)),
    ]
    if events.shape[1] > len(EVENT_FIELDS):
        fields_of_click.append(_rows(events[:, len(EVENT_FIELDS) :], kinds.field("extras").type))
    clicks = pa.StructArray.from_arrays(fields_of_click, fields=list(kinds))
    columns = [
        pa.array(np.array([session.started_at for session in own], np.int64)),
        pa.array(np.array([_first_digits(session.session_id) for session in own], np.uint64)),
        pa.array(np.array([_number_of(session.visitor_id) for session in own], np.int64)),
        _rows(encoded.session_ids, schema.field("session_ids").type),
        pa.ListArray.from_arrays(_offsets(lengths), clicks, type=schema.field("clicks").type),
        _queries(encoded.query_ids, schema.field("queries").type),
    ]  # fmt: skip
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _rows(ids: Int32, kind: pa.DataType) -> pa.Array:
    flat = ids.ravel().astype(kind.value_type.to_pandas_dtype())
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), type=kind)


def _queries(ids: Int32, kind: pa.DataType) -> pa.Array:
    """Of ids [N, QUERY_SLOTS, QUERY_GRAMS]: used slots come first, and so do a slot's ids."""
    grams = (ids > 0).sum(2)
    slots = (grams > 0).sum(1)
    flat = pa.array(ids[ids > 0].astype(np.uint16))
    return pa.ListArray.from_arrays(
        _offsets(slots), pa.ListArray.from_arrays(_offsets(grams[grams > 0]), flat), type=kind
    )


def _offsets(lengths: npt.NDArray[Any]) -> pa.Array:
    return pa.array(np.concatenate(([0], lengths.cumsum())).astype(np.int32))


def _first_digits(session_id: str) -> int:
    """64 of its 128 bits, which order sessions that start in the same millisecond as the whole id does."""
    try:
        return int(session_id[:16], 16)
    except ValueError:
        raise ShardsError(f"a session_id of {len(session_id)} characters, expected 32 hex digits") from None


def _number_of(visitor_id: str) -> int:
    digest = hashlib.blake2b(visitor_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"shard")
    return int.from_bytes(digest.digest(), "big", signed=True)


class _Shard:
    """The arrays of one file, as views of mapped memory."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
            batch = file.get_batch(0)
        clicks, queries = batch.column("clicks"), batch.column("queries")
        self.started_at: Int64 = batch.column("started_at").to_numpy()
        self.session_id: npt.NDArray[np.uint64] = batch.column("session_id").to_numpy()
        self.visitor: Int64 = batch.column("visitor").to_numpy()
        self.session_ids = _matrix(batch.column("session_ids"), len(SESSION_FIELDS))
        self.click_at = clicks.offsets.to_numpy()
        self.values = _matrix(clicks.values.field("values"), len(LEARNT_FIELDS))
        self.times = _matrix(clicks.values.field("times"), _TIMES)
        self.extras = _extras(clicks.values)
        """None: the tokenizer has no extra fields."""
        self.dwell_z: Float32 = clicks.values.field("dwell_z").to_numpy()
        self.query_slot = clicks.values.field("query_slot").to_numpy()
        self.query_at = queries.offsets.to_numpy()
        self.gram_at = queries.values.offsets.to_numpy()
        self.grams = queries.values.values.to_numpy()

    @cached_property
    def lengths(self) -> Int64:
        lengths: Int64 = np.diff(self.click_at).astype(np.int64)
        return lengths


def _extras(clicks: Any) -> npt.NDArray[Any] | None:
    if clicks.type.get_field_index("extras") < 0:
        return None
    return _matrix(clicks.field("extras"), clicks.type.field("extras").type.list_size)


def _matrix(lists: Any, width: int) -> npt.NDArray[Any]:
    matrix: npt.NDArray[Any] = lists.values.to_numpy().reshape(-1, width)
    return matrix


def _in_order(shards: Sequence[_Shard]) -> Int64:
    """[N]: places of all sessions, those of the first shard first, by start and id."""
    if not shards:
        return np.zeros(0, np.int64)
    started_at = np.concatenate([shard.started_at for shard in shards])
    ids = np.concatenate([shard.session_id for shard in shards])
    order: Int64 = np.lexsort((ids, started_at))
    return order


class _Mapped:
    """All shards of a split as if they were one."""

    def __init__(self, shards: Sequence[_Shard]) -> None:
        self._shards = shards
        self._ends = np.cumsum([len(shard.started_at) for shard in shards])
        extras = shards[0].extras if shards else None
        self._columns = len(EVENT_FIELDS) + (0 if extras is None else extras.shape[1])

    def visitors(self, places: Int64) -> Int64:
        found = np.zeros(len(places), np.int64)
        for shard, at, local in self._located(places):
            found[at] = shard.visitor[local]
        return found

    def tokens(self, places: Int64, width: int) -> Tokens:
        """[B, width]: of sessions that are no longer."""
        count = len(places)
        event_ids = np.zeros((count, width, self._columns), np.int32)
        dwell_z = np.zeros((count, width), np.float32)
        query_slot = np.zeros((count, width), np.int32)
        query_ids = np.zeros((count, QUERY_SLOTS, QUERY_GRAMS), np.int32)
        session_ids = np.zeros((count, len(SESSION_FIELDS)), np.int32)
        lengths = np.zeros(count, np.int32)
        for shard, at, local in self._located(places):
            begin, end = shard.click_at[local], shard.click_at[local + 1]
            source, inside = _spans(begin, end, width)
            row, click = at[inside[0]], inside[1]
            event_ids[row, click, : len(LEARNT_FIELDS)] = shard.values[source]
            event_ids[row, click, len(LEARNT_FIELDS) : len(EVENT_FIELDS)] = shard.times[source]
            if shard.extras is not None:
                event_ids[row, click, len(EVENT_FIELDS) :] = shard.extras[source]
            dwell_z[row, click] = shard.dwell_z[source]
            query_slot[row, click] = shard.query_slot[source]
            session_ids[at] = shard.session_ids[local]
            lengths[at] = end - begin
            query, slot = _spans(shard.query_at[local], shard.query_at[local + 1], QUERY_SLOTS)
            gram, place = _spans(shard.gram_at[query], shard.gram_at[query + 1], QUERY_GRAMS)
            query_ids[at[slot[0]][place[0]], slot[1][place[0]], place[1]] = shard.grams[gram]
        arrays = event_ids, dwell_z, query_slot, query_ids, session_ids, lengths
        return Tokens(*map(torch.from_numpy, arrays))

    def _located(self, places: Int64) -> Iterator[tuple[_Shard, Int64, Int64]]:
        """(shard, which of the places are in it, where in it)"""
        number = np.searchsorted(self._ends, places, side="right")
        for each in np.unique(number).tolist():
            at = np.flatnonzero(number == each)
            shard = self._shards[each]
            yield shard, at, places[at] - (self._ends[each] - len(shard.started_at))


def _spans(begin: npt.NDArray[Any], end: npt.NDArray[Any], width: int) -> tuple[Int64, tuple[Int64, Int64]]:
    """All places from `begin` to `end` of N spans, end to end; and for each its span and its place in it."""
    inside: Bool = np.arange(width) < (end - begin)[:, None]
    span, place = inside.nonzero()
    return begin[span].astype(np.int64) + place, (span, place)


@dataclass(frozen=True)
class MappedBucket:
    """The sessions of one length bucket, read from mapped memory when they are picked."""

    rows: Tensor
    mapped: _Mapped
    places: Int64
    """[N]"""
    width: int

    def pick(self, which: Tensor) -> Tokens:
        return self.mapped.tokens(self.places[which.numpy()], self.width)

    def visitors_of(self, which: Tensor) -> Tensor:
        return torch.from_numpy(self.mapped.visitors(self.places[which.numpy()]))
