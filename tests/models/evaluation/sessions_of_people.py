"""How the tests of households cut clicks into sessions."""

from __future__ import annotations

from pathlib import Path

from streamer.core.rules import SessionRules
from streamer.replay.file_source import sessions_of_file
from streamer.schemas.click import Session

RULES = SessionRules()


def cut(path: Path) -> list[Session]:
    return sessions_of_file(path, RULES).sessions
