"""Lines of a file that lies still, plain or gzipped; `kafka/lines.py` reads what is still written to."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, cast

from streamer.errors import UsageError

MAX_LINE_BYTES = 32 * 1024 * 1024
"""Beyond any topic's limit: of a longer line only so much is kept, however much a packed file unpacks to."""
_READ_BYTES = 256 * 1024
_GZIP_MAGIC, _PARQUET_MAGIC = b"\x1f\x8b", b"PAR1"


def lines_of(path: Path, expected: str) -> Iterator[tuple[int, bytes]]:
    """Lines that aren't blank, by their number from 1 on, each cut after MAX_LINE_BYTES.

    Raises UsageError, which names what was `expected`, if the file can't be read to its end.
    """
    try:
        with path.open("rb", _READ_BYTES) as raw, unpacked(raw) as stream:
            lines = iter(partial(stream.readline, MAX_LINE_BYTES), b"")
            for number, line in enumerate(lines, start=1):
                if not line.isspace():
                    yield number, line
                if len(line) == MAX_LINE_BYTES:
                    _pass_over_rest(line, stream)
    except (OSError, EOFError, zlib.error) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "damaged gzip file"
        raise UsageError(f"{path}: cannot be read ({reason}); expected {expected}") from None


def is_parquet(path: Path) -> bool:
    """Whether it begins so. False for what can't be read, too: `lines_of` says why."""
    try:
        with path.open("rb") as file:
            return file.read(len(_PARQUET_MAGIC)) == _PARQUET_MAGIC
    except OSError:
        return False


def unpacked(raw: IO[bytes]) -> IO[bytes]:
    """The content of a file that is gzipped, which is known by its first bytes, or is not."""
    is_gzip = raw.read(2) == _GZIP_MAGIC
    raw.seek(0)
    if not is_gzip:
        return raw
    # A GzipFile has a buffer of its own, but takes a call in Python for every line of it.
    return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=raw)), _READ_BYTES)


def _pass_over_rest(line: bytes, stream: IO[bytes]) -> None:
    while len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
        line = stream.readline(MAX_LINE_BYTES)
