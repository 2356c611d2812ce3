"""The values at some paths of a record, all at once: what a mapping looks at, and nothing else is built.

A JSON record is parsed straight into objects that have only what lies on a path. One whose shape differs (a
null or a text where the paths expect an object) is parsed whole and walked; the values are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import astuple

from streamer.native.columns import Columns
from streamer.pipeline.decode import Rejected
from streamer.pipeline.mapping.path import Step, walk

Leaves = list[tuple[Any, ...]]
"""The values of a record's objects that lie on a path, those of the record itself first."""
Path = tuple[Step, ...]
Place = tuple[int, int, Path]
"""Of a leaf: which object, which of its values, and what is left of a path from there."""
_BITS = 64
_parse_any = msgspec.json.Decoder().decode


class LeafReader:
    """Reads the leaves of records in JSON."""

    def __init__(self, paths: Sequence[Path]) -> None:
        heads = sorted({_head(path) for path in paths}, key=len)
        self._heads: list[tuple[str, ...]] = []
        for head in heads:
            if not any(head[: len(known)] == known for known in self._heads):
                self._heads.append(head)
        record = _struct(self._heads)
        self._parse = msgspec.json.Decoder(record).decode
        self._paths, objects = _paths(self._heads)
        self._objects: list[tuple[int, int, Any, tuple[Any, ...]]] = []
        """Where an object stands, what is there in a record that lacks it, and the values of that."""
        absent = [astuple(record())]
        for parent, slot in objects:
            inner = absent[parent][slot]
            absent.append(astuple(inner))
            self._objects.append((parent, slot, inner, absent[-1]))

    def place(self, path: Path) -> Place:
        """Where the path leads to."""
        head = next(head for head in self._heads if path[: len(head)] == head)
        for number, among in enumerate(self._paths):
            if head in among:
                return number, among.index(head), path[len(head) :]
        raise KeyError(path)

    def bit(self, number: int, leaf: int) -> int:
        """That of a leaf in a number which has one for each, in their order; 0 for those that don't fit."""
        return _bit(sum(map(len, self._paths[:number])) + leaf)

    def read(self, value: bytes) -> Leaves:
        """Raises Rejected (decode) for what is no record."""
        try:
            record = self._parse(value)
        except msgspec.ValidationError:
            return self._read_any(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_json(error) from None
        leaves = [astuple(record)]
        for parent, slot, absent, values in self._objects:
            inner = leaves[parent][slot]
            leaves.append(values if inner is absent else astuple(inner))
        return leaves

    def _read_any(self, value: bytes) -> Leaves:
        try:
            record = _parse_any(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_json(error) from None
        if type(record) is not dict:
            raise Rejected("decode", "not_an_object")
        return [tuple([walk(record, path) for path in among]) for among in self._paths]


class ColumnReader:
    """Reads the leaves of records that are tab-separated values: the columns that a path begins with."""

    def __init__(self, paths: Sequence[Path], columns: Sequence[str]) -> None:
        named = {path[0] for path in paths}
        self._wanted = [name for name in columns if name in named]
        self._cells = Columns(len(columns), [columns.index(name) for name in self._wanted])

    def place(self, path: Path) -> Place:
        """Where the path leads to. The last leaf is empty, for what no column has."""
        head = path[0]
        index = self._wanted.index(head) if head in self._wanted else len(self._wanted)
        return 0, index, path[1:]

    def bit(self, number: int, leaf: int) -> int:
        """As LeafReader's."""
        return _bit(number + leaf)

    def read(self, value: bytes) -> Leaves:
        """Raises Rejected (decode) for what is no record."""
        try:
            cells = self._cells.read(value)
        except UnicodeDecodeError:
            raise Rejected("decode", "invalid_utf8") from None
        if cells is None:
            raise Rejected("decode", "wrong_columns")
        return [cells]


def _bit(place: int) -> int:
    return 1 << place if place < _BITS else 0


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
    """A type that holds what is at the heads, a field for each key in order of first mention."""
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


def _paths(heads: Sequence[tuple[str, ...]]) -> tuple[list[list[Path]], list[tuple[int, int]]]:
    """The paths of what `_struct` makes, object by object, the record first; and where in them each of the
    others stands."""
    paths: list[list[Path]] = []
    objects: list[tuple[int, int]] = []
    waiting: list[tuple[Path, Sequence[tuple[str, ...]]]] = [((), heads)]
    for above, among in waiting:
        paths.append([])
        for key in dict.fromkeys(head[0] for head in among):
            below = [head[1:] for head in among if head[0] == key and len(head) > 1]
            if below:
                objects.append((len(paths) - 1, len(paths[-1])))
                waiting.append(((*above, key), below))
            paths[-1].append((*above, key))
    return paths, objects
