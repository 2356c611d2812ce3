"""The form that an answer must have: a JSON schema to ask with, and the local check that decides.

The server's word counts for nothing: text is searched for a JSON value, decoded by its type, and checked
by the caller's rule, whether or not a format was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from models.llm.errors import UnusableError

T = TypeVar("T")
Check = Callable[[T], str | None]
"""What is wrong with an answer, in words that the model is told; None: nothing."""

_MOST_STARTS = 32


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
