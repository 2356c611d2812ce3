"""A look at the bytes of a dead letter without what is personal in them: short, scrubbed, one line.

JSON and Avro are taken apart first, so that no escape and no encoding hides a number from the scrubbing; of
what is neither, the text is shown if it is text, and only the size if it isn't. Names and free text stay:
scrubbing takes numbers and addresses.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from streamer.pipeline.normalize import readable
from streamer.schemas import codec

MAX_CHARACTERS = 400
_MAX_VALUES = 60
_MAX_TEXT = 80
_NUMBERS_OF_CLICKS = frozenset(("timestamp", "sent_at", "dwell_ms", "price"))
"""Their numbers are times and amounts, long as they may be."""
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def preview(value: bytes | None) -> str:
    """At most MAX_CHARACTERS of what the bytes say."""
    if value is None:
        return "(null)"
    document = _taken_apart(value)
    if document is not None:
        return _cut(" ".join(_shown(document)))
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"({len(value)} bytes that are no text)"
    return _cut(readable(_unescaped(text)))


def _unescaped(text: str) -> str:
    """With the characters that JSON's escapes stand for; U+FFFD for half a pair of surrogates."""
    characters = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
    return characters.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _taken_apart(value: bytes) -> Any | None:
    try:
        return codec.decode(value)[1] if value[:1] == b"\0" else msgspec.json.decode(value)
    except (codec.CodecError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _shown(document: Any) -> Iterator[str]:
    """name=value of the leaves, the first ones of a large document."""
    left: list[tuple[str, Any]] = [("", document)]
    for _ in range(_MAX_VALUES):
        if not left:
            return
        name, value = left.pop(0)
        if isinstance(value, dict):
            left = [
                (f"{name}.{key}" if name else str(key), each)
                for key, each in islice(value.items(), _MAX_VALUES)
            ] + left
        elif isinstance(value, list):
            left = [(name, each) for each in value[:_MAX_VALUES]] + left
        elif value is not None:
            plain = isinstance(value, bool) or (isinstance(value, int | float) and name in _NUMBERS_OF_CLICKS)
            text = str(value) if plain else readable(str(value))
            yield f"{_cut(readable(name), _MAX_TEXT)}={_cut(text, _MAX_TEXT)}"
    if left:
        yield "..."


def _cut(text: str, most: int = MAX_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
