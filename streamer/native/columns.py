"""Cells of tab-separated values."""

from __future__ import annotations

from collections.abc import Sequence


class Columns:
    """Reads some of the cells of each row."""

    def __init__(self, count: int, wanted: Sequence[int]) -> None:
        """`count`: of the columns; `wanted`: places of those that are read, rising."""
        self._count = count
        self._wanted = tuple(wanted)

    def read(self, row: bytes) -> tuple[str, ...] | None:
        """The wanted cells, and an empty one; None for a row of another number of cells.

        Raises UnicodeDecodeError.
        """
        cells = row.rstrip(b"\r\n").split(b"\t")
        if len(cells) != self._count:
            return None
        return (*[cells[place].decode() for place in self._wanted], "")
