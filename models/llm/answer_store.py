"""Every answer that was paid for, stored before it is checked: a run that died pays for no question twice."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from streamer.models.llm.endpoint import Answer


class _Stored(msgspec.Struct, frozen=True):
    key: str
    answer: Answer


class AnswerStore:
    """A file with a line per answer, only ever appended to. Safe for threads."""

    def __init__(self, file: Path) -> None:
        self.folder = file.parent
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._lock = Lock()
        self._answers = {each.key: each.answer for each in _stored_in(file)}

    @staticmethod
    def key(question: dict[str, Any]) -> str:
        """64 hex digits; the same for the same question, whatever the order of its keys."""
        canonical = json.dumps(question, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def get(self, key: str) -> Answer | None:
        return self._answers.get(key)

    def put(self, key: str, answer: Answer) -> None:
        line = msgspec.json.encode(_Stored(key, answer)) + b"\n"
        with self._lock, self._file.open("ab", buffering=0) as file:
            file.write(line)
            self._answers[key] = answer


def _stored_in(file: Path) -> list[_Stored]:
    """Without lines that are damaged: what they answered is asked again. A half last line is ended."""
    content = file.read_bytes() if file.exists() else b""
    if content and not content.endswith(b"\n"):
        with file.open("ab") as end:
            end.write(b"\n")
    found = []
    for line in content.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=_Stored))
        except msgspec.DecodeError:
            continue
    return found
