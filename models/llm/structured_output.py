"""Structured answers: the JSON schema to ask with, the local check, and the format to ask in.

The server's word counts for nothing: its text is searched for a JSON object, decoded by type, and checked by
the caller's rule, whether or not a format was asked for. Formats are tried in order: `json_schema`, `tool`
call, `json_object`, plain `text`. One that the endpoint refuses is given up, and so is one that never gave a
usable answer. What was learnt about an endpoint and model is stored in a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

import msgspec

from models.files import write_atomically
from models.llm.errors import UnusableError

T = TypeVar("T")
Check = Callable[[T], str | None]
"""What is wrong with an answer, in words that the model is told; None: nothing."""

_MOST_STARTS = 32

FORMATS = ("json_schema", "tool", "json_object", "text")
_USELESS_ANSWERS = 3
"""So many unusable answers on a rung, and not one of use, and it is left."""


def nothing_wrong(_found: object) -> str | None:
    return None


@dataclass(frozen=True)
class Form(Generic[T]):
    name: str
    type: type[T]
    check: Check[T] = nothing_wrong

    def schema(self) -> dict[str, Any]:
        """JSON schema with every object closed and every property required, as strict modes want it."""
        _, definitions = msgspec.json.schema_components((self.type,), ref_template="#/$defs/{name}")
        closed = {name: {**each, "additionalProperties": False} for name, each in definitions.items()}
        top = closed.pop(self.type.__name__)
        return {**top, "$defs": closed} if closed else top

    def read(self, text: str) -> T:
        """Raises UnusableError."""
        if not text.strip():
            raise UnusableError("the answer is empty")
        why = "there is no JSON object in it"
        for candidate in _objects(text):
            try:
                found = msgspec.convert(candidate, type=self.type)
            except msgspec.ValidationError as error:
                why = str(error)
                continue
            problem = self.check(found)
            if problem is None:
                return found
            why = problem
        raise UnusableError(why)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """JSON objects in a text, the whole text first: models wrap them in prose and code fences."""
    decoder = json.JSONDecoder()
    at, tried = text.find("{"), 0
    while at >= 0 and tried < _MOST_STARTS:
        tried += 1
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        yield found
        at = text.find("{", end)


def request_of(rung: str, form: Form[Any]) -> dict[str, Any]:
    """The fields of a chat request that ask for the form."""
    if rung == "json_schema":
        schema = {"name": form.name, "schema": form.schema(), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    if rung == "tool":
        function = {"name": form.name, "parameters": form.schema(), "strict": True}
        chosen = {"type": "function", "function": {"name": form.name}}
        return {"tools": [{"type": "function", "function": function}], "tool_choice": chosen}
    return {"response_format": {"type": "json_object"}} if rung == "json_object" else {}


def instruction(form: Form[Any]) -> str:
    """Said on every rung: a server that ignores formats still passes on the text."""
    schema = json.dumps(form.schema(), separators=(",", ":"))
    return f"Answer with one JSON object of this schema and nothing else: {schema}"


class FormatFallback:
    """The rung to ask on, of one endpoint and model. Safe for threads."""

    def __init__(self, file: Path, endpoint: str) -> None:
        self._file, self._endpoint = file, endpoint
        self._lock = Lock()
        self._useless = dict.fromkeys(FORMATS, 0)
        self._useful = dict.fromkeys(FORMATS, 0)
        self._at = self._remembered()

    @property
    def rung(self) -> str:
        return FORMATS[self._at]

    def below(self, rung: str) -> str:
        """The next rung down; the lowest is its own."""
        return FORMATS[min(FORMATS.index(rung) + 1, len(FORMATS) - 1)]

    def refused(self, rung: str) -> None:
        """The endpoint doesn't know this rung."""
        with self._lock:
            self._leave(rung)

    def answered(self, rung: str, useful: bool) -> None:
        with self._lock:
            counts = self._useful if useful else self._useless
            counts[rung] += 1
            if self._useless[rung] >= _USELESS_ANSWERS and not self._useful[rung]:
                self._leave(rung)

    def _leave(self, rung: str) -> None:
        if FORMATS[self._at] == rung and rung != FORMATS[-1]:
            self._at += 1
            known = {**self._known(), self._endpoint: FORMATS[self._at]}
            write_atomically(self._file, json.dumps(known, indent=2, sort_keys=True).encode() + b"\n")

    def _remembered(self) -> int:
        rung = self._known().get(self._endpoint)
        return FORMATS.index(rung) if rung in FORMATS else 0

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
