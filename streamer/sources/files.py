"""Records of clicks in a file: lines, or the rows of a parquet file as the JSON that they mean.

`source` is what `clicks.source` says; None: nothing is known of the records yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

from streamer.line_file import is_parquet, lines_of
from streamer.settings import NATIVE

_ROWS = 1000
"""Of a parquet file, held at a time."""


def records_of(path: Path, source: str | None) -> Iterator[bytes]:
    """Each that isn't blank. Raises UsageError if the file can't be read to its end."""
    if is_parquet(path):
        return rows_of(path, source)
    return map(itemgetter(1), lines_of(path, "clicks as JSON lines or parquet"))


def rows_of(path: Path, source: str | None) -> Iterator[bytes]:
    """Those of a parquet file. Raises UsageError."""
    from streamer.parquet_rows import CLICK_COLUMNS, json_rows

    return json_rows(path, _ROWS, CLICK_COLUMNS if source == NATIVE else None)
