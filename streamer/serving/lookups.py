"""Look-ups over HTTP: a record by its id, with an ETag, several at once, or whose are similar to it.

They change nothing. An answer is the record as its topic has it, without its vectors: those come only to
callers that name their embedding space.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote_to_bytes

import msgspec
import numpy as np
import orjson
from aiohttp import web

from streamer.kafka.partitions import by_murmur2
from streamer.schemas import codec
from streamer.schemas.click import MAX_ID_BYTES
from streamer.schemas.lookup import digest_of
from streamer.serving import problems
from streamer.serving.access import Access
from streamer.serving.answers import Answer
from streamer.serving.lookup_log import LookupLog
from streamer.serving.metrics import ServingMetrics
from streamer.serving.problems import Handler, Refusal
from streamer.serving.records import RecordView, StoredRecord

if TYPE_CHECKING:
    from streamer.serving.neighbours import FollowedNeighbours

VECTORS: Final = ("embedding", "profile_embedding")
"""Fields that are comparable only within `embedding_space`."""
VIEW_AGE, RECORD_AGE = "View-Age", "Record-Age"
_CACHING = "private, no-cache"
_IN_ONE_GO = 16
"""Records of a batch that are read before other requests get their turn: about a millisecond."""
_NEIGHBOURS = 10
"""Where a request doesn't say how many."""


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a batch."""

    ids: list[str]


_read_batch = msgspec.json.Decoder(Batch).decode


@dataclass(frozen=True)
class Collection:
    """What is looked up under one path."""

    name: str
    """visitors or users, as in the path."""
    view: RecordView
    share: frozenset[int] | None
    """Partitions that are held; None: all."""
    neighbours: FollowedNeighbours | None = None
    """None: nobody may ask who is similar."""
    log: LookupLog | None = None
    """None: what was served isn't written down."""

    def find(self, key: str) -> StoredRecord:
        """The record of this key. Raises Refusal."""
        if not _is_id(key):
            raise Refusal(problems.MALFORMED_ID)
        stored = self.view.get(key)
        if stored is not None:
            return stored
        if self._is_elsewhere(key):
            raise Refusal(problems.OTHER_PARTITION, **self._share_members)
        if key in self.view.erased:
            raise Refusal(problems.ERASED)
        raise Refusal(problems.UNKNOWN_ID, **self._share_members)

    def serve(self, key: str) -> StoredRecord:
        """The same for a caller who gets the record: that there is none is noted."""
        try:
            return self.find(key)
        except Refusal as refusal:
            if refusal.code is not problems.MALFORMED_ID:
                self.note(key, refusal.code.name)
            raise

    def note(
        self, key: str, outcome: str, stored: StoredRecord | None = None, space: str | None = None
    ) -> None:
        """Write down what was served, if that is wanted."""
        if self.log is not None:
            has_vectors = stored is not None and space == stored.embedding_space
            self.log.note(self.name, key, outcome, stored, has_vectors)

    def _is_elsewhere(self, key: str) -> bool:
        count = self.view.partition_count
        if self.share is None or not self.view.is_by_murmur2 or count is None:
            return False
        return by_murmur2(key.encode(), count) not in self.share

    @property
    def _share_members(self) -> dict[str, Any]:
        return {} if self.share is None else {"partitions": sorted(self.share)}


class LookUps:
    """The handlers of one collection."""

    def __init__(
        self,
        collection: Collection,
        access: Access,
        metrics: ServingMetrics,
        max_batch: int,
        now: Callable[[], float],
    ) -> None:
        """`now`: seconds since 1970."""
        self._collection = collection
        self._view = collection.view
        self._access = access
        self._metrics = metrics
        self._max_batch = max_batch
        self._now = now

    def routes(self) -> list[web.RouteDef]:
        """GET /v1/NAME/{id} and POST /v1/NAME:batchGet; GET /v1/NAME/{id}/similar if there are neighbours."""
        path = f"/v1/{self._collection.name}"
        routes = [
            web.get(f"{path}/{{id:[^/]+}}", self._one),
            web.post(f"{path}:batchGet", self._observed(self._batch, "batch")),
        ]
        if self._collection.neighbours is not None:
            routes.append(web.get(f"{path}/{{id:[^/]+}}/similar", self._observed(self._similar, "similar")))
        return routes

    def _observed(self, handler: Handler, kind: str) -> Handler:
        async def observed(request: web.Request) -> web.StreamResponse:
            with self._observing(kind):
                return await handler(request)

        return observed

    @contextmanager
    def _observing(self, kind: str) -> Iterator[None]:
        begun = time.perf_counter()
        try:
            yield
        except Refusal as refusal:
            self._count(refusal.code.name)
            raise
        finally:
            self._metrics.answered(self._collection.name, kind, time.perf_counter() - begun)

    async def _one(self, request: web.Request) -> web.Response:
        url = request.rel_url
        return self.one(_encoded_id_in(request), url.raw_query_string, request.headers).response()

    def one(self, encoded_id: str, query: str, headers: Mapping[str, str]) -> Answer:
        """The record of an id, as path and query of the request have them. Raises Refusal."""
        with self._observing("one"):
            return self._answer(encoded_id, query, headers)

    def _answer(self, encoded_id: str, query: str, asked: Mapping[str, str]) -> Answer:
        self._access.admit(self._access.caller(asked), 1)
        space = self._space_in(query)
        key = _decoded_id(encoded_id)
        stored = self._collection.serve(key)
        etag = etag_of(stored, space)
        headers = {
            "ETag": f'"{etag}"',
            "Cache-Control": _CACHING,
            VIEW_AGE: f"{self._view.age_s:.1f}",
            RECORD_AGE: str(max(round(self._now() - stored.closed_at / 1000), 0)),
        }
        if _has(asked, headers["ETag"]):
            self._count("not_modified")
            self._collection.note(key, "not_modified", stored, space)
            return Answer(304, headers)
        body = _json(answer(stored, space))
        self._count("found")
        self._collection.note(key, "found", stored, space)
        return Answer(200, {**headers, "Content-Type": "application/json"}, body)

    async def _batch(self, request: web.Request) -> web.Response:
        caller = self._access.caller(request.headers)
        space = self._space_in(request.rel_url.raw_query_string)
        ids = await _ids_in(request)
        if len(ids) > self._max_batch:
            raise Refusal(
                problems.BATCH_TOO_LARGE, f"{len(ids)} ids, expected at most {self._max_batch} in a batch"
            )
        self._access.admit(caller, len(ids))
        results = []
        for number, key in enumerate(ids):
            if number % _IN_ONE_GO == _IN_ONE_GO - 1:
                await asyncio.sleep(0)
            results.append(self._result(key, space))
        headers = {"Cache-Control": _CACHING, VIEW_AGE: f"{self._view.age_s:.1f}"}
        return web.Response(
            body=_json({"results": results}), content_type="application/json", headers=headers
        )

    async def _similar(self, request: web.Request) -> web.Response:
        neighbours = self._collection.neighbours
        assert neighbours is not None
        caller = self._access.caller(request.headers)
        if not (self._view.is_ready and neighbours.is_complete):
            raise _warming_up()
        count = self._count_in(request)
        self._access.admit(caller, count)
        key = _decoded_id(_encoded_id_in(request))
        stored = self._collection.find(key)
        space = request.query.get("space", stored.embedding_space)
        if space not in (live := neighbours.spaces):
            raise Refusal(problems.UNKNOWN_SPACE, spaces=live)
        try:
            vector = self._view.table.vector_of(stored.decoded())
        except codec.CodecError:
            raise Refusal(problems.UNREADABLE_RECORD) from None
        if vector is None or space != stored.embedding_space:
            raise Refusal(problems.NO_VECTOR)
        found = await asyncio.to_thread(neighbours.nearest, key, space, vector, count)
        self._count("found")
        similar = [{"id": each.id, "cosine": round(each.cosine, 4)} for each in found]
        headers = {"Cache-Control": _CACHING, VIEW_AGE: f"{self._view.age_s:.1f}"}
        return web.Response(
            body=_json({"space": space, "similar": similar}), content_type="application/json", headers=headers
        )

    def _count_in(self, request: web.Request) -> int:
        """How many neighbours are asked for. Raises Refusal."""
        written = request.query.get("count", str(min(_NEIGHBOURS, self._max_batch)))
        if not (written.isascii() and written.isdecimal() and 0 < int(written[:9]) <= self._max_batch):
            raise Refusal(problems.MALFORMED_COUNT, f"The count is not a number from 1 to {self._max_batch}")
        return int(written)

    def _result(self, key: str, space: str | None) -> dict[str, Any]:
        """Of a batch, for one id: `status` and `code` as a look-up of its own would have them."""
        try:
            stored = self._collection.serve(key)
            record = answer(stored, space)
        except Refusal as refusal:
            self._count(refusal.code.name)
            return {"id": key, "status": refusal.code.status, "code": refusal.code.name}
        self._count("found")
        self._collection.note(key, "found", stored, space)
        return {"id": key, "status": 200, "record": record}

    def _count(self, outcome: str) -> None:
        self._metrics.looked_up(self._collection.name, outcome)

    def _space_in(self, query: str) -> str | None:
        """The space that is asked for. Raises Refusal if there is none such, or no answer yet."""
        if not self._view.is_ready:
            raise _warming_up()
        space = parse_qs(query, keep_blank_values=True).get("space", [None])[0] if query else None
        spaces = self._view.spaces
        if space is not None and space not in spaces:
            raise Refusal(problems.UNKNOWN_SPACE, spaces=sorted(spaces))
        return space


def answer(stored: StoredRecord, space: str | None) -> codec.Record:
    """The record, with its vectors if they are of this space: null if they are of another. Raises Refusal."""
    try:
        record = stored.decoded()
    except codec.CodecError:
        raise Refusal(problems.UNREADABLE_RECORD) from None
    for name in VECTORS:
        vector = record.pop(name, None)
        if space is not None and vector is not None:
            comparable = stored.embedding_space == space and vector
            record[name] = np.array(vector, np.float32) if comparable else None
    return record


def etag_of(stored: StoredRecord, space: str | None) -> str:
    """Changes with the record's bytes, and with the vectors that an answer has."""
    return digest_of(stored.message + (space or "").encode())


def _warming_up() -> Refusal:
    return Refusal(problems.WARMING_UP, headers={"Retry-After": "1"})


def _json(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def _has(asked: Mapping[str, str], etag: str) -> bool:
    """Whether the caller has this answer already (RFC 9110, 13.1.2). `etag`: with its quotes."""
    known = (tag.strip().removeprefix("W/") for tag in asked.get("If-None-Match", "").split(","))
    return any(tag in (etag, "*") for tag in known)


def _encoded_id_in(request: web.Request) -> str:
    return request.rel_url.raw_path.split("/")[3]


def _decoded_id(encoded: str) -> str:
    """Raises Refusal where it isn't UTF-8."""
    try:
        return unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise Refusal(problems.MALFORMED_ID) from None


async def _ids_in(request: web.Request) -> list[str]:
    """Of the body. Raises Refusal."""
    try:
        return _read_batch(await request.read()).ids
    except msgspec.DecodeError as error:  # it names a place and a type, never a value
        raise Refusal(problems.MALFORMED_BODY, f"{problems.MALFORMED_BODY.meaning}: {error}") from None
    except UnicodeDecodeError:
        raise Refusal(problems.MALFORMED_BODY) from None
    except (web.RequestPayloadError, ConnectionError):  # cut off, or not encoded as its head says
        raise Refusal(problems.MALFORMED_BODY, "The body can't be read to its end") from None


def _is_id(key: str) -> bool:
    try:
        return 0 < len(key.encode()) <= MAX_ID_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        return False
