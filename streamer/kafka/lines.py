"""Lines of a file or of standard input, as they come; or the rows of a parquet file.

Lines keep their bytes as they are, without the line end and a byte order mark. A source that is still being
written to (a pipe) is read as far as it goes, so that no line waits for those after it.
"""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path
from typing import Self

from streamer.errors import StreamerError
from streamer.line_file import MAX_LINE_BYTES, READ_ERRORS, STDIN, Input, is_parquet, reason_of
from streamer.sources.files import rows_of

_CHUNK_BYTES = 1024 * 1024
_CHUNK_ROWS = 1000


class LinesError(StreamerError):
    """The source can't be read, or not to its end."""


class Lines:
    """`with Lines(name) as lines`, then `async for chunk in lines`: lists of lines.

    `name` is a path, or `-` for standard input. Raises LinesError, and UsageError for what can't be text.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        try:
            self._source = Input(name, "clicks as JSON lines")
        except OSError as error:
            raise LinesError(f"{name}: cannot be read ({reason_of(error)})") from None

    @property
    def total_bytes(self) -> int | None:
        """Size of the file as it lies on disk; None for a pipe."""
        return self._source.total_bytes

    def read_bytes(self) -> int:
        """How much of the file on disk has been read."""
        return self._source.read_bytes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        rest: list[bytes] = []  # pieces of a line that has not ended yet
        while chunk := await self._read():
            head, *lines = chunk.split(b"\n")
            if sum(map(len, rest)) < MAX_LINE_BYTES:
                rest.append(head)
            if lines:
                complete = [b"".join(rest), *lines]
                rest = [complete.pop()]
                yield [line.removeprefix(BOM_UTF8) for line in complete]
        if last := b"".join(rest).removeprefix(BOM_UTF8):
            yield [last]

    async def _read(self) -> bytes:
        try:
            return await asyncio.to_thread(self._source.read1, _CHUNK_BYTES)
        except READ_ERRORS as error:
            raise LinesError(f"{self._name}: cannot be read on ({reason_of(error)})") from None
        except asyncio.CancelledError:
            self._source.interrupt()
            raise


class Rows:
    """The rows of a parquet file, as `Lines` gives lines. Raises UsageError."""

    total_bytes = None

    def __init__(self, path: Path, source: str) -> None:
        self._rows = rows_of(path, source)

    def read_bytes(self) -> int:
        """Not known."""
        return 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        while rows := await asyncio.to_thread(lambda: list(islice(self._rows, _CHUNK_ROWS))):
            yield rows


def clicks_in(name: str, source: str) -> Lines | Rows:
    """Those of a file, or of `-`, as `clicks.source` has them. Raises as Lines and Rows do."""
    return Rows(Path(name), source) if name != STDIN and is_parquet(Path(name)) else Lines(name)
