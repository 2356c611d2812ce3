"""How to ask for structure: from what few servers enforce down to what all understand.

`json_schema` → `tool` call → `json_object` → plain `text`. A rung that the endpoint refuses is left, and so
is one whose answers never were of use. What was learnt of an endpoint and model is kept in a file.
"""

from __future__ import annotations

import json
from pathlib import Path
from threading import Lock
from typing import Any

from models.llm.forms import Form
from models.llm.store import write_atomically

RUNGS = ("json_schema", "tool", "json_object", "text")
_USELESS_ANSWERS = 3
"""So many unusable answers on a rung, and not one of use, and it is left."""


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


class Ladder:
    """The rung to ask on, of one endpoint and model. Safe for threads."""

    def __init__(self, file: Path, endpoint: str) -> None:
        self._file, self._endpoint = file, endpoint
        self._lock = Lock()
        self._useless = dict.fromkeys(RUNGS, 0)
        self._useful = dict.fromkeys(RUNGS, 0)
        self._at = self._remembered()

    @property
    def rung(self) -> str:
        return RUNGS[self._at]

    def below(self, rung: str) -> str:
        """The next rung down; the lowest is its own."""
        return RUNGS[min(RUNGS.index(rung) + 1, len(RUNGS) - 1)]

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
        if RUNGS[self._at] == rung and rung != RUNGS[-1]:
            self._at += 1
            known = {**self._known(), self._endpoint: RUNGS[self._at]}
            write_atomically(self._file, json.dumps(known, indent=2, sort_keys=True).encode() + b"\n")

    def _remembered(self) -> int:
        rung = self._known().get(self._endpoint)
        return RUNGS.index(rung) if rung in RUNGS else 0

    def _known(self) -> dict[str, str]:
        try:
            known = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}
