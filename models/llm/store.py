"""Every answer that was paid for, by what was asked: one file each, written at once or not at all.

A run that died finds here what it had, so no question is paid for twice. Keys are hashes of the whole
question; delete the folder to ask everything anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """What came back, before anybody looked at whether it is of use."""

    text: str
    """Empty if there was none."""
    finish: str
    """`stop`, `length` (truncated), ..."""
    tokens: int
    """Of question and answer; estimated where the server doesn't say."""


class AnswerStore:
    """Safe for threads: two that write the same key write the same thing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def key(question: dict[str, Any]) -> str:
        """64 hex digits; the same for the same question, whatever the order of its keys."""
        canonical = json.dumps(question, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def get(self, key: str) -> Answer | None:
        """None too for a file that isn't an answer: it is asked again."""
        try:
            return msgspec.json.decode(self._path(key).read_bytes(), type=Answer)
        except (OSError, msgspec.DecodeError):
            return None

    def put(self, key: str, answer: Answer) -> None:
        write_atomically(self._path(key), msgspec.json.encode(answer))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def write_atomically(path: Path, content: bytes) -> None:
    """All of it or nothing, also when the power goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
