"""Figures as text: a line for each of a part's, or a table where a part compares several things."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from benchmarks.pairs import Comparison, Spread, short, table


def lines(found: Any) -> Iterator[str]:
    """Of a dataclass of figures, or of a mapping of names to such."""
    if isinstance(found, Mapping):
        if all(isinstance(each, Comparison) for each in found.values()):
            yield from table(found).splitlines()
            return
        yield from _table(found)
        return
    for name, value in _items(found):
        if isinstance(value, Mapping):
            yield f"{name}:"
            yield from (f"  {line}" for line in _table(value))
        else:
            yield f"{name:24} {as_text(value)}"


def as_text(value: Any) -> str:
    """A figure with no more digits than it is worth."""
    if isinstance(value, Spread):
        return str(value)
    if isinstance(value, float):
        return short(value)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _items(found: Any) -> Iterator[tuple[str, Any]]:
    assert is_dataclass(found)
    return ((field.name, getattr(found, field.name)) for field in fields(found))


def _table(found: Mapping[Any, Any]) -> Iterator[str]:
    rows = [
        [str(name), *(as_text(value) for _, value in _items(each))]
        if is_dataclass(each)
        else [str(name), as_text(each)]
        for name, each in found.items()
    ]
    if not found:
        return
    first = next(iter(found.values()))
    header = ["", *(name for name, _ in _items(first))] if is_dataclass(first) else ["", ""]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in [header, *rows]:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
