"""Printing: data to standard output, everything else to standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import orjson


def print_json(value: Mapping[str, Any]) -> None:
    """One object, one line."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    """A line about what is being done."""
    print(text, file=sys.stderr, flush=True)


def visible(text: str) -> str:
    """Text from a topic, made safe for a terminal: control and other unprintable characters escaped."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )
