"""Paths into a record: `context.page.url`, `items[0].id`, `params[key=page].value`, `"a.b".c`.

A step is a key, the place of a list's item, or a condition that picks the first item of a list which has it.
A text below which a path goes on is read as JSON.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

_STEP = re.compile(
    r'(?:^|(?<=.)\.)(?:"([^"\\\x00-\x1f]+)"|([^".\[\]\\\x00-\x1f]+))|\[(\d+)\]|\[([^\]=]+)=([^\]]+)\]'
)
"""A key has no quote, backslash or control character: the parser knows no such names of fields."""
_parse = msgspec.json.Decoder().decode


class Having(NamedTuple):
    """Picks the first item of a list whose `key` has this value."""

    key: str
    value: str


Step = str | int | Having


class BadPathError(ValueError):
    """The text is no path."""


def parse_path(text: str) -> tuple[Step, ...]:
    """The steps of a path. Raises BadPathError."""
    steps: list[Step] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise BadPathError(text)
        quoted, key, place, having, value = found.groups()
        if place is not None:
            steps.append(int(place))
        elif having is not None:
            steps.append(Having(having, value))
        else:
            steps.append(quoted or key)
        at = found.end()
    if not steps or not isinstance(steps[0], str):
        raise BadPathError(text)
    return tuple(steps)


def walk(node: Any, steps: tuple[Step, ...]) -> Any:
    """What stands there; None if nothing does."""
    for place, step in enumerate(steps):
        if type(node) is str:
            node = _read(node, steps[place:])
        if type(node) is dict:
            node = node.get(step)
        elif type(node) is list:
            node = _item(node, step)
        else:
            return None
    return node


def _item(items: list[Any], step: Step) -> Any:
    if type(step) is int:
        return items[step] if step < len(items) else None
    if type(step) is Having:
        key, value = step
        for each in items:
            if type(each) is dict and each.get(key) == value:
                return each
    return None


def _read(text: str, steps: tuple[Step, ...]) -> Any:
    if not text:
        return None
    for step in steps:
        if isinstance(step, Having) and "\\" not in text and step.value not in text:
            return None  # which saves reading a long text for an item that most lack
    try:
        return _parse(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
