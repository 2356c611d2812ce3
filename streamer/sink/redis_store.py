"""The copy in Redis or Valkey: documents by key, and beside them how far each partition was copied.

What is applied is applied by a script together with the position, and only where the position is still the
one that the sink went on from. So whatever is killed, and however many sinks run, every record is applied
once and in its partition's order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from itertools import chain
from typing import Any, Self, cast

import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from streamer.kafka.client import ssl_context
from streamer.settings import RedisSinkSettings
from streamer.sink.documents import FIELDS, Keys
from streamer.sink.source import Source
from streamer.sink.store import OUTCOMES, Batch, Change, Place, Position, StoreAwayError, StoreError

MARKER_MS = 8 * 86_400_000
"""How long it is remembered that a key was deleted: longer than its older records stay in the topic, which
are compacted after seven days."""
_SWEPT_IN_ONE_GO = 500
_SCANNED = 1000
_OLDEST = (6, 2)
_AWAY = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.MasterDownError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    OSError,
)
_AWAY_CODES = ("BUSY", "LOADING", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "UNKILLABLE")
_REFUSED = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)


class RedisStore:
    """Raises StoreAwayError, after which the same may be tried again, and StoreError."""

    def __init__(self, settings: RedisSinkSettings) -> None:
        """Raises TlsFileError."""
        self._settings = settings
        self._keys = Keys(settings.prefix)
        self._fields = FIELDS[settings.format]
        self._ttl_ms = round(settings.ttl_days * 86_400_000)
        self._redis = _client(settings)
        scripts = {name: files(__package__).joinpath(f"{name}.lua").read_text() for name in _SCRIPTS}
        self._scripts = {name: self._redis.register_script(text) for name, text in scripts.items()}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._redis.aclose()

    async def check(self) -> str:
        """What it does when it is full (`maxmemory-policy`), if it says. Raises StoreError for a server that
        can't be used."""
        info = await self._asked(self._redis.info)
        version = str(info.get("redis_version", "0"))
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
            raise StoreError(
                f"sink.redis.url = {self._settings.url}: version {version}, expected 6.2 or later"
            )
        if info.get("redis_mode") == "cluster" or info.get("cluster_enabled"):
            raise self._unusable("a cluster, expected one server, with or without replicas")
        return str(info.get("maxmemory_policy", ""))

    @property
    def layout(self) -> str:
        return self._settings.format

    async def position(self, source: Source, partition: int) -> Position | None:
        key = self._keys.position(source.topic, partition)
        return _position(await self._asked(lambda: self._redis.hgetall(key)))

    async def begin(
        self, source: Source, partition: int, known: Position | None, first: int, until: int, now_ms: int
    ) -> Position:
        key = self._keys.position(source.topic, partition)
        expected = "" if known is None else known.offset
        given = (expected, first, until, now_ms, self.layout)
        return _stands(await self._run([("begin", [key], given)]))

    async def finish(self, source: Source, partition: int, known: Position) -> Position:
        key = self._keys.position(source.topic, partition)
        return _stands(await self._run([("finish", [key], (known.pass_ms,))]))

    async def apply(self, batches: Sequence[Batch], now_ms: int) -> dict[Place, Position]:
        """In one round trip."""
        calls = [self._call(batch, now_ms) for batch in batches]
        answers = await self._run(calls)
        return {
            batch.place: position
            for batch, answer in zip(batches, answers, strict=True)
            if (position := _position(_pairs(answer))) is not None
        }

    def _call(self, batch: Batch, now_ms: int) -> _Call:
        head = (
            *(batch.expected, batch.next, batch.partition, now_ms),
            "" if batch.at_end_ms is None else batch.at_end_ms,
            *(batch.read, batch.bad, batch.stale, MARKER_MS, self.layout),
        )
        keys: list[str | bytes] = [self._keys.position(*batch.place)]
        arguments: list[str | bytes | int] = [*head]
        for change in batch.changes:
            document = self._keys.document(batch.source.name, change.key)
            keys += (document, self._keys.fence(document))
            arguments += self._arguments(batch.source, change)
        return "apply", keys, arguments

    def _arguments(self, source: Source, change: Change) -> Iterable[str | bytes | int]:
        if change.record is None:
            return change.offset, "", 0, 0
        fields = self._fields(source.schema, change.record)
        expires = change.record["closed_at"] + self._ttl_ms
        return change.offset, source.age(change.record), expires, len(fields), *fields

    async def sweep(self, source: Source, passes: Mapping[int, int], is_whole: bool) -> int:
        cursor, deleted = 0, 0
        given = [int(is_whole), *(number for each in passes.items() for number in each)]
        pattern = self._keys.document(source.name, "*")
        while True:
            cursor, documents = await self._asked(partial(self._redis.scan, cursor, pattern, _SCANNED))
            fences = (self._keys.fence(each.decode(errors="replace")) for each in documents)
            keys = list(chain.from_iterable(zip(documents, fences, strict=True)))
            calls: list[_Call] = [
                ("sweep", keys[n : n + 2 * _SWEPT_IN_ONE_GO], given)
                for n in range(0, len(keys), 2 * _SWEPT_IN_ONE_GO)
            ]
            deleted += int(sum(await self._run(calls)))
            if cursor == 0:
                return deleted

    async def flush(self) -> None:
        """Nothing waits."""

    async def _run(self, calls: Sequence[_Call]) -> list[Any]:
        """The scripts' answers, in one round trip."""

        async def once() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for name, keys, arguments in calls:
                    pipeline.evalsha(self._scripts[name].sha, len(keys), *keys, *arguments)
                answers = await pipeline.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return cast(list[Any], answers)

        async def with_scripts() -> list[Any]:
            try:
                return await once()
            except redis.exceptions.NoScriptError:  # the server was started anew
                for script in self._scripts.values():
                    await self._redis.script_load(script.script)
                return await once()

        return cast(list[Any], await self._asked(with_scripts)) if calls else []

    async def _asked(self, act: Callable[[], Any]) -> Any:
        try:
            return await cast(Awaitable[Any], act())
        except _REFUSED:
            raise self._unusable(
                "it doesn't let us in; check sink.redis.username and sink.redis.password"
            ) from None
        except _AWAY as error:
            raise StoreAwayError(f"sink.redis.url = {self._settings.url}: {_reason(error)}") from None
        except redis.exceptions.NoPermissionError:
            raise self._unusable("the user lacks a permission; docs/sinks.md has them") from None
        except redis.exceptions.RedisError as error:
            if _code(error) in _AWAY_CODES:
                raise StoreAwayError(f"sink.redis.url = {self._settings.url}: {_reason(error)}") from None
            raise self._unusable(f"it answers {_code(error)}") from None

    def _unusable(self, why: str) -> StoreError:
        return StoreError(f"sink.redis.url = {self._settings.url}: {why}")


_SCRIPTS = ("apply", "begin", "finish", "sweep")
_Call = tuple[str, Sequence[str | bytes], Iterable[Any]]
"""Name of a script, keys, arguments."""


def _client(settings: RedisSinkSettings) -> Any:
    options: dict[str, Any] = {}
    if settings.uses_tls:
        ssl_context(settings, "sink.redis")  # says what is wrong with which file
        secret = settings.ssl_key_password
        options = {
            "ssl_ca_certs": settings.ssl_ca_location and str(settings.ssl_ca_location),
            "ssl_certfile": settings.ssl_certificate_location and str(settings.ssl_certificate_location),
            "ssl_keyfile": settings.ssl_key_location and str(settings.ssl_key_location),
            "ssl_password": secret and secret.get_secret_value(),
        }
    return redis.asyncio.Redis.from_url(
        settings.url,
        username=settings.username,
        password=settings.password and settings.password.get_secret_value(),
        socket_timeout=settings.timeout_s,
        socket_connect_timeout=settings.timeout_s,
        retry=Retry(NoBackoff(), 0),  # what was sent is never sent again without a look at the position
        protocol=2,
        **options,
    )


def _stands(answers: Sequence[Any]) -> Position:
    position = _position(_pairs(answers[0]))
    assert position is not None
    return position


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _position(fields: Mapping[bytes, bytes]) -> Position | None:
    if b"offset" not in fields:
        return None
    until = fields.get(b"until")
    return Position(
        offset=int(fields[b"offset"]),
        pass_ms=int(fields[b"pass"]),
        until=None if until is None else int(until),
        at_end_ms=int(fields[b"at_end"]),
        layout=fields[b"layout"].decode(),
        counts={name: int(fields.get(name.encode(), 0)) for name in ("read", *OUTCOMES)},
    )


def _code(error: Exception) -> str:
    """The first word of an answer: the rest may quote what was sent."""
    word = str(error).partition(" ")[0]
    return word if word.isupper() else type(error).__name__


def _reason(error: Exception) -> str:
    if isinstance(error, redis.exceptions.OutOfMemoryError) or _code(error) == "OOM":
        return "it is full (maxmemory)"
    return f"it can't be used now ({_code(error)})"
