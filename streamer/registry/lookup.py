"""Schemas of records, fetched from the registry as they are met, each once.

A registry that is away is waited for; what is known already goes on being read without it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeVar

import structlog

from streamer.pipeline.registered import RegisteredSchemas, UnknownSchema, prefix_text
from streamer.registry.client import RegistryAwayError, registry_client
from streamer.settings import RegistrySettings

R = TypeVar("R")
Outcome = Literal["found", "unknown", "failed"]

COMMAND_PATIENCE_S = 30.0
"""How long a command that somebody waits for waits for a registry that is away."""
FORGET_AFTER_S = 30.0
"""A registry of several machines may be about to know an id that one of them doesn't know yet."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 5.0

log = structlog.get_logger(__name__)


class SchemaLookup:
    """Of one process. Without a registry in the settings there is nothing to be learnt."""

    def __init__(
        self,
        settings: RegistrySettings,
        patience_s: float = float("inf"),
        observe: Callable[[Outcome], None] = lambda _: None,
        forget_after_s: float = FORGET_AFTER_S,
    ) -> None:
        """`patience_s`: how long a registry that is away is waited for. `observe` gets the outcome of each
        request. `forget_after_s`: how long an id counts as unknown that the registry doesn't know."""
        self.registered = RegisteredSchemas() if settings.url else None
        """None: there is no registry."""
        self._settings = settings
        self._patience_s = patience_s
        self._observe = observe
        self._forget_after_s = forget_after_s
        self._waiting: tuple[str, float] | None = None
        """What for, and since when, in monotonic seconds."""

    @property
    def waiting_s(self) -> float:
        """How long the registry has been away, with a record waiting for it; 0 if none does."""
        return 0.0 if self._waiting is None else time.monotonic() - self._waiting[1]

    def not_ready(self) -> list[str]:
        """Why clicks wait; empty if they don't."""
        if self._waiting is None:
            return []
        return [f"{self._waiting[0]}; a click has waited for its schema for {self.waiting_s:.0f} s"]

    def own_now(self, message: bytes) -> bytes:
        """`RegisteredSchemas.own`; without a registry the message as it is. Raises UnknownSchema."""
        return message if self.registered is None else self.registered.own(message)

    async def own(self, message: bytes) -> bytes:
        """The same, with the schema learnt where it isn't known. Raises what `learn` raises."""
        return message if self.registered is None else await self.tried(lambda: self.own_now(message))

    async def own_record(self, record: Any) -> Any:
        """aiokafka's ConsumerRecord with its value so."""
        if self.registered is None or record.value is None:
            return record
        return replace(record, value=await self.own(record.value))

    async def tried(self, act: Callable[[], R]) -> R:
        """What `act` gives, which is called again once a schema that it lacks is at hand. Raises what it and
        `learn` raise."""
        while True:
            try:
                return act()
            except UnknownSchema as unknown:
                await self.learn(unknown.prefix)

    async def learn(self, prefix: bytes, still_wanted: Callable[[], bool] = lambda: True) -> None:
        """Have the schema at hand, or that there is none. Ends early if it isn't wanted any more.

        Raises RegistryError, RegistryAwayError once patience is over.
        """
        assert self.registered is not None
        begun, pause = time.monotonic(), _FIRST_WAIT_S
        try:
            while still_wanted():
                try:
                    await self._fetch(self.registered, prefix)
                    return
                except RegistryAwayError as error:
                    self._observe("failed")
                    if time.monotonic() - begun + pause > self._patience_s:
                        raise
                    if self._waiting is None:
                        log.warning("registry_is_away", reason=str(error), schema=prefix_text(prefix))
                    self._waiting = str(error), begun
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_WAIT_S)
        finally:
            if self._waiting is not None:
                log.info("registry_wait_ended", schema=prefix_text(prefix), seconds=round(self.waiting_s, 1))
                self._waiting = None

    async def _fetch(self, registered: RegisteredSchemas, prefix: bytes) -> None:
        async with registry_client(self._settings) as client:
            definition = await client.definition(prefix)
        registered.add(prefix, definition)
        self._observe("unknown" if definition is None else "found")
        if definition is None:
            log.warning("unknown_schema_id", schema=prefix_text(prefix), registry=self._settings.url)
            asyncio.get_running_loop().call_later(self._forget_after_s, registered.forget, prefix)
