"""The values at some paths of a record, all at once: what a mapping looks at, and nothing else is built.

A JSON record is parsed straight into objects that have only what lies on a path. One whose shape differs (a
null or a text where the paths expect an object) is parsed whole and walked; the values are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from streamer.native.columns import Columns
from streamer.pipeline.decode import Rejected
from streamer.pipeline.mapping.path import Step, walk

Leaves = tuple[Any, ...]
Path = tuple[Step, ...]
_parse_any = msgspec.json.Decoder().decode


class LeafReader:
    """Reads the leaves of records in JSON."""

    def __init__(self, paths: Sequence[Path]) -> None:
        heads = sorted({_head(path) for path in paths}, key=len)
        self._heads: list[tuple[str, ...]] = []
        for head in heads:
            if not any(head[: len(known)] == known for known in self._heads):
                self._heads.append(head)
        self._parse = msgspec.json.Decoder(_struct(self._heads)).decode
        self._pick = _picker(_attribute_names(self._heads))

    def place(self, path: Path) -> tuple[int, Path]:
        """Which leaf the path leads to, and what is left of the path from there."""
        for index, head in enumerate(self._heads):
            if path[: len(head)] == head:
                return index, path[len(head) :]
        raise KeyError(path)

    def read(self, value: bytes) -> Leaves:
        """Raises Rejected (decode) for what is no record."""
        try:
            leaves: Leaves = self._pick(self._parse(value))
        except msgspec.ValidationError:
            return self._read_any(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_json(error) from None
        return leaves

    def _read_any(self, value: bytes) -> Leaves:
        try:
            record = _parse_any(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_json(error) from None
        if type(record) is not dict:
            raise Rejected("decode", "not_an_object")
        return tuple([walk(record, head) for head in self._heads])


class ColumnReader:
    """Reads the leaves of records that are tab-separated values: the columns that a path begins with."""

    def __init__(self, paths: Sequence[Path], columns: Sequence[str]) -> None:
        named = {path[0] for path in paths}
        self._wanted = [name for name in columns if name in named]
        self._cells = Columns(len(columns), [columns.index(name) for name in self._wanted])

    def place(self, path: Path) -> tuple[int, Path]:
        """Which leaf the path leads to, and what is left of the path from there. The last leaf is empty, for
        what no column has."""
        head = path[0]
        index = self._wanted.index(head) if head in self._wanted else len(self._wanted)
        return index, path[1:]

    def read(self, value: bytes) -> Leaves:
        """Raises Rejected (decode) for what is no record."""
        try:
            cells = self._cells.read(value)
        except UnicodeDecodeError:
            raise Rejected("decode", "invalid_utf8") from None
        if cells is None:
            raise Rejected("decode", "wrong_columns")
        return cells


def _bad_json(error: Exception) -> Rejected:
    if isinstance(error, RecursionError):
        return Rejected("decode", "nested_too_deep")
    return Rejected("decode", "invalid_utf8" if isinstance(error, UnicodeDecodeError) else "invalid_json")


def _head(path: Path) -> tuple[str, ...]:
    """The keys that a path begins with."""
    head: list[str] = []
    for step in path:
        if not isinstance(step, str):
            break
        head.append(step)
    return tuple(head)


def _struct(heads: Sequence[tuple[str, ...]]) -> Any:
    """A type that holds what is at the heads, as fields `f0`, `f1`, ... in order of first mention."""
    keys = list(dict.fromkeys(head[0] for head in heads))
    fields: list[tuple[str, Any, Any]] = []
    for place, key in enumerate(keys):
        below = [head[1:] for head in heads if head[0] == key and len(head) > 1]
        if below:
            inner = _struct(below)
            fields.append((f"f{place}", inner, inner()))
        else:
            fields.append((f"f{place}", Any, None))
    names = {f"f{place}": key for place, key in enumerate(keys)}
    return msgspec.defstruct("Record", fields, frozen=True, gc=False, rename=names)


def _attribute_names(heads: Sequence[tuple[str, ...]]) -> list[str]:
    """The dotted name of each head in the type that `_struct` makes."""
    names: list[str] = []
    for head in heads:
        name, among = [], list(heads)
        for depth, key in enumerate(head):
            keys = list(dict.fromkeys(other[depth] for other in among))
            name.append(f"f{keys.index(key)}")
            among = [other for other in among if other[depth] == key and len(other) > depth + 1]
        names.append(".".join(name))
    return names


def _picker(names: list[str]) -> Callable[[Any], Leaves]:
    pick = attrgetter(*names)
    return pick if len(names) > 1 else lambda record: (pick(record),)
