"""Confluent's REST protocol, as far as it is used here: schemas by id.

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
from streamer.settings import RegistrySettings

_TYPE = "application/vnd.schemaregistry.v1+json"
_AWAY = frozenset((408, 425, 429))
"""Statuses, beside those from 500 on, that may be others at the next try."""
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

    async def definition(self, prefix: bytes) -> Definition | None:
        """The schema of messages with this prefix; None if the registry has none. Raises RegistryError."""
        kind = "guids" if prefix[0] == GUID_MAGIC else "ids"
        found = await self._get(f"schemas/{kind}/{prefix_text(prefix)}")
        if found is None:
            return None
        if not isinstance(found, dict) or not isinstance(found.get("schema"), str):
            raise RegistryError(f"{self._base} answers without a schema; expected a schema registry")
        texts: dict[tuple[str, str], str] = {}
        await self._add_references(found, texts)
        return Definition(found.get("schemaType", "AVRO"), found["schema"], list(texts.values()))

    async def subjects(self) -> list[str]:
        """Raises RegistryError."""
        return await self._get("subjects") or []

    async def _add_references(self, schema: dict[str, Any], texts: dict[tuple[str, str], str]) -> None:
        """What a schema refers to, behind what that refers to itself."""
        for reference in schema.get("references") or ():
            place = reference["subject"], str(reference["version"])
            if place in texts:
                continue
            if len(texts) >= MAX_REFERENCES:
                raise RegistryError(f"{self._base}: a schema refers to more than {MAX_REFERENCES} others")
            texts[place] = ""  # so that a circle ends
            subject = quote(place[0], safe="")
            found = await self._get(f"subjects/{subject}/versions/{place[1]}")
            if found is None:
                raise RegistryError(f"{self._base}: there is no version {place[1]} of subject {place[0]!r}")
            await self._add_references(found, texts)
            texts[place] = texts.pop(place) or found["schema"]

    async def _get(self, path: str) -> Any:
        """The answer; None for 404."""
        status, answer = await self._ask("GET", path)
        return None if status == 404 else answer

    async def _ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
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
        try:
            return status, orjson.loads(content) if content else None
        except orjson.JSONDecodeError:
            raise RegistryError(
                f"{self._base}/{path} answers HTTP {status} without JSON; expected a schema registry "
                "with Confluent's protocol: check registry.url"
            ) from None


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
