"""The visitor of a click of our own shape where that is another field than `visitor_id`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamer.pipeline.decode import Rejected
from streamer.pipeline.mapping.leaves import LeafReader, Path
from streamer.pipeline.mapping.path import walk
from streamer.pipeline.mapping.plan import CLICK_FIELDS


class VisitorAt:
    """Reads what stands at a path: a text, or a whole number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._leaves = LeafReader([path])
        self._number, self._leaf, self._rest = self._leaves.place(path)

    def in_json(self, value: bytes) -> str:
        """Of a click in JSON. Raises Rejected."""
        return _id(walk(self._leaves.read(value)[self._number][self._leaf], self._rest))

    def in_fields(self, values: Sequence[Any]) -> str:
        """Of the fields of click.avsc, in its order. Raises Rejected."""
        return _id(walk(dict(zip(CLICK_FIELDS, values, strict=True)), self._path))


def _id(value: Any) -> str:
    if value is None or value == "":
        raise Rejected("validate", "missing_field:visitor_id")
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    raise Rejected("validate", "wrong_type:visitor_id")
