"""Confluent's REST protocol, as far as it is used here: schemas by id, and ids of our own schemas.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html
A registry that doesn't answer is another error than one that refuses: the first is worth another try.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from streamer.errors import StreamerError
from streamer.kafka.client import ssl_context
from streamer.pipeline.registered import GUID_MAGIC, Definition, prefix_text
from streamer.schemas.codec import CodecError
from streamer.settings import RegistrySettings

_TYPE = "application/vnd.schemaregistry.v1+json"
_AWAY = frozenset((408, 425, 429))
"""Statuses, beside those from 500 on, that may be others at the next try."""
_NOT_FOUND = 404
_LARGEST_ID = 2**31 - 1
MAX_REFERENCES = 100


class RegistryError(StreamerError):
    """The registry refuses, or what answers is no registry."""


class RegistryAwayError(RegistryError):
    """The registry doesn't answer now."""


class RegistryClient:
    """One conversation with the registry of the settings."""

    def __init__(self, settings: RegistrySettings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session
        self._base = str(settings.url).rstrip("/")

    async def definition(self, prefix: bytes) -> Definition | CodecError | None:
        """The schema of messages with this prefix, or why it can't be used; None if the registry has none.

        Raises RegistryError.
        """
        if prefix[0] != GUID_MAGIC and int.from_bytes(prefix[1:], "big") > _LARGEST_ID:
            return None
        kind = "guids" if prefix[0] == GUID_MAGIC else "ids"
        found = await self._get(f"schemas/{kind}/{prefix_text(prefix)}")
        if found is None:
            return None
        if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
            raise RegistryError(f"{self._base} answers without a schema; expected a schema registry")
        texts: dict[tuple[str, str], str] = {}
        try:
            await self._add_references(found, texts)
        except CodecError as error:
            return error
        return Definition(found.get("schemaType", "AVRO"), found["schema"], list(texts.values()))

    async def subjects(self) -> list[str]:
        """Raises RegistryError."""
        return await self._get("subjects") or []

    async def id_of(self, subject: str, schema: str) -> int | None:
        """Of an Avro schema; None if it isn't registered under the subject. Raises RegistryError."""
        status, answer = await self._ask("POST", f"subjects/{quote(subject, safe='')}", _avro(schema))
        return None if status == _NOT_FOUND else self._id_in(answer)

    async def register(self, subject: str, schema: str) -> int:
        """The id of an Avro schema, which is registered if it isn't yet. Raises RegistryError."""
        path = f"subjects/{quote(subject, safe='')}/versions"
        return self._id_in((await self._ask("POST", path, _avro(schema)))[1])

    def _id_in(self, answer: Any) -> int:
        if not isinstance(answer, dict) or not isinstance(answer.get("id"), int):
            raise RegistryError(f"{self._base} answers without an id; expected a schema registry")
        return int(answer["id"])

    async def _add_references(self, schema: dict[str, Any], texts: dict[tuple[str, str], str]) -> None:
        """What a schema refers to, behind what that refers to itself. Raises CodecError."""
        for reference in schema.get("references") or ():
            place = reference["subject"], str(reference["version"])
            if place in texts:
                continue
            if len(texts) >= MAX_REFERENCES:
                raise CodecError("unusable_schema", f"it refers to more than {MAX_REFERENCES} others")
            texts[place] = ""  # so that a circle ends
            found = await self._get(f"subjects/{quote(place[0], safe='')}/versions/{place[1]}")
            if found is None:
                raise CodecError("unusable_schema", f"there is no version {place[1]} of subject {place[0]!r}")
            await self._add_references(found, texts)
            texts[place] = texts.pop(place) or found["schema"]

    async def _get(self, path: str) -> Any:
        """The answer; None for what the registry doesn't have."""
        status, answer = await self._ask("GET", path)
        return None if status == _NOT_FOUND else answer

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status, a good one or _NOT_FOUND, and answer."""
        try:
            async with self._session.request(method, f"{self._base}/{path}", json=body) as response:
                status, content = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RegistryAwayError(
                f"the schema registry at {self._base} doesn't answer ({type(error).__name__})"
            ) from None
        if status >= 500 or status in _AWAY:
            raise RegistryAwayError(f"the schema registry at {self._base} answers HTTP {status}")
        if status in (401, 403):
            raise RegistryError(
                f"the schema registry at {self._base} refuses us (HTTP {status}): check registry.username, "
                "registry.password or registry.token, and what they may do"
            )
        if status == _NOT_FOUND and path.startswith("schemas/guids/"):
            return status, None  # also where GUIDs are not known at all
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError:
            answer = None
        if answer is None or (status == _NOT_FOUND and not _says_not_found(answer)):
            raise RegistryError(
                f"{self._base}/{path} answers HTTP {status}, and not as a schema registry with Confluent's "
                "protocol does: check registry.url"
            )
        if status >= 300 and status != _NOT_FOUND:
            said = answer.get("message") if isinstance(answer, dict) else None
            raise RegistryError(f"{self._base}/{path} answers HTTP {status}: {said}")
        return status, answer


def _avro(schema: str) -> dict[str, str]:
    return {"schema": schema, "schemaType": "AVRO"}


def _says_not_found(answer: Any) -> bool:
    """Whether a subject, a version or a schema isn't there, rather than the page that was asked for."""
    return (
        isinstance(answer, dict)
        and str(answer.get("error_code", "")).startswith("404")
        and (answer["error_code"] != _NOT_FOUND)
    )


@asynccontextmanager
async def registry_client(settings: RegistrySettings) -> AsyncIterator[RegistryClient]:
    """Raises TlsFileError if a certificate of the settings can't be used."""
    headers = {"Accept": f"{_TYPE}, application/json", "Content-Type": _TYPE}
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {settings.token.get_secret_value()}"
    elif settings.username is not None and settings.password is not None:
        credentials = f"{settings.username}:{settings.password.get_secret_value()}".encode()
        headers["Authorization"] = f"Basic {b64encode(credentials).decode()}"
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=ssl_context(settings, "registry")),
        timeout=aiohttp.ClientTimeout(total=settings.timeout_s),
        headers=headers,
    ) as session:
        yield RegistryClient(settings, session)
