"""Structured answers: the JSON schema to ask with, the local check, and the format to ask in.

The server's word counts for nothing: its text is searched for a JSON object, decoded by type, and checked by
the caller's rule, whether or not a format was asked for. Formats are tried in order: `json_schema`, `tool`
call, `json_object`, plain `text`. One that the endpoint refuses is given up, and so is one whose answers
never had the form asked for; a wrong answer in the right form says nothing against a format. What was learnt
about an endpoint and model is stored in a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar

import msgspec

from streamer.models.llm.errors import UnreadableError, UnusableError
from streamer.models.whole_file import write_whole

T = TypeVar("T")
Check = Callable[[T], str | None]
"""What is wrong with an answer, in words for the model; None if nothing is."""

_MOST_STARTS = 32

FORMATS = ("json_schema", "tool", "json_object", "text")
_UNREADABLE_ANSWERS = 3
"""A format is given up after so many answers that hadn't the form if none had it."""
_THINKING, _THOUGHT = "<think>", "</think>"


def nothing_wrong(_found: object) -> str | None:
    return None


@dataclass(frozen=True)
class AnswerSchema(Generic[T]):
    name: str
    type: type[T]
    check: Check[T] = nothing_wrong
    allowed: Mapping[tuple[Any, str], Sequence[str]] = field(default_factory=dict)
    """By type and property, the only values it may have. An endpoint that keeps to a schema can't err there;
    of one that doesn't, only `check` is sure."""

    def json_schema(self, closed: bool = True) -> dict[str, Any]:
        """JSON schema with every object closed and every property required, as strict modes want it.

        Without `closed`, `allowed` is left out: for a prompt that lists the values already.
        """
        _, definitions = msgspec.json.schema_components((self.type,), ref_template="#/$defs/{name}")
        objects = {name: {**each, "additionalProperties": False} for name, each in definitions.items()}
        for (owner, name), values in self.allowed.items() if closed else ():
            one_of = {"enum": list(dict.fromkeys(values))}
            properties = objects[owner.__name__]["properties"]
            is_list = properties[name].get("type") == "array"
            properties[name] = {"type": "array", "items": one_of} if is_list else one_of
        top = objects.pop(self.type.__name__)
        return {**top, "$defs": objects} if objects else top

    def read(self, text: str) -> T:
        """Raises UnusableError; UnreadableError if nothing in the text has the form."""
        said = spoken(text)
        if not said.strip():
            raise UnreadableError("the answer is empty")
        error: UnusableError = UnreadableError("there is no JSON object in it")
        for candidate in _objects(said):
            try:
                found = msgspec.convert(candidate, type=self.type)
            except msgspec.ValidationError as unlike:
                error = error if type(error) is UnusableError else UnreadableError(str(unlike))
                continue
            problem = self.check(found)
            if problem is None:
                return found
            error = UnusableError(problem)
        raise error


def spoken(text: str) -> str:
    """What stands after a model's thinking; nothing if the thinking doesn't end."""
    said = text.rpartition(_THOUGHT)[2]
    return "" if thinks_without_end(text) else said


def thinks_without_end(text: str) -> bool:
    return text.rpartition(_THOUGHT)[2].lstrip().startswith(_THINKING)


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects in a text, in order: models wrap them in prose and code fences."""
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


def request_of(answer_format: str, schema: AnswerSchema[Any]) -> dict[str, Any]:
    """The fields of a chat request that ask for the schema."""
    if answer_format == "json_schema":
        asked = {"name": schema.name, "schema": schema.json_schema(), "strict": True}
        return {"response_format": {"type": "json_schema", "json_schema": asked}}
    if answer_format == "tool":
        function = {"name": schema.name, "parameters": schema.json_schema(), "strict": True}
        chosen = {"type": "function", "function": {"name": schema.name}}
        return {"tools": [{"type": "function", "function": function}], "tool_choice": chosen}
    return {"response_format": {"type": "json_object"}} if answer_format == "json_object" else {}


def instruction(schema: AnswerSchema[Any]) -> str:
    """Part of the prompt in every format: a server that ignores formats still passes on the text."""
    text = json.dumps(schema.json_schema(closed=False), separators=(",", ":"))
    return f"Answer with one JSON object of this schema and nothing else: {text}"


class FormatFallback:
    """The format to ask one endpoint and model in. Safe for threads."""

    def __init__(self, file: Path, endpoint: str) -> None:
        self._file, self._endpoint = file, endpoint
        self._lock = Lock()
        self._unreadable = dict.fromkeys(FORMATS, 0)
        self._readable = dict.fromkeys(FORMATS, 0)
        self._at = self._remembered()

    @property
    def current(self) -> str:
        return FORMATS[self._at]

    def after(self, answer_format: str) -> str:
        """The next format to try; after the last, the last."""
        return FORMATS[min(FORMATS.index(answer_format) + 1, len(FORMATS) - 1)]

    def has_worked(self, answer_format: str) -> bool:
        """Whether an answer in it could be read in this run."""
        return self._readable[answer_format] > 0

    def refused(self, answer_format: str) -> None:
        """The endpoint doesn't accept this format."""
        with self._lock:
            self._give_up(answer_format)

    def answered(self, answer_format: str, readable: bool) -> None:
        with self._lock:
            counts = self._readable if readable else self._unreadable
            counts[answer_format] += 1
            if self._unreadable[answer_format] >= _UNREADABLE_ANSWERS and not self._readable[answer_format]:
                self._give_up(answer_format)

    def _give_up(self, answer_format: str) -> None:
        if FORMATS[self._at] == answer_format and answer_format != FORMATS[-1]:
            self._at += 1
            known = {**self._known(), self._endpoint: FORMATS[self._at]}
            write_whole(self._file, json.dumps(known, indent=2, sort_keys=True).encode() + b"\n")

    def _remembered(self) -> int:
        answer_format = self._known().get(self._endpoint)
        return FORMATS.index(answer_format) if answer_format in FORMATS else 0

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
