"""Lines of text from a file, a pipe or standard input; `kafka/lines.py` reads what is still being written.

- What is packed with gzip, bzip2 or xz is known by its first bytes and unpacked, whatever its name.
- A byte order mark at the beginning of a line is no part of it: files that were joined have it inside, too.
- What can't be lines of UTF-8 text by its first bytes is refused by name, before any of it is used.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import select
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from streamer.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STDIN = "-"
MAX_LINE_BYTES = 32 * 1024 * 1024
"""Beyond any topic's limit: of a longer line only so much is kept, however much a packed file unpacks to."""
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What reading a file raises that is damaged, cut off or gone."""
_READ_BYTES = 256 * 1024
_POLL_S = 0.2
_PARQUET = b"PAR1"
_UNPACKERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda packed: gzip.GzipFile(fileobj=packed),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}
_REFUSED = {
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"\x04\x22\x4d\x18": "packed with lz4",
    b"PK\x03\x04": "a zip archive",
    _PARQUET: "parquet",
    b"Obj\x01": "an Avro file",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"{\0": "UTF-16",
    b"\0{": "UTF-16",
}
_MAGIC = (*_UNPACKERS, *_REFUSED)


class Input:
    """`with Input(name, expected) as source`: the content, unpacked, by `readline` and `read1`.

    `name` is a path, or `-` for standard input. Opening it raises OSError; reading raises one of READ_ERRORS,
    or UsageError, which names what was `expected`, for content that can't be text. Nothing is read before the
    first call for content: a pipe may be silent for long.
    """

    def __init__(self, name: str, expected: str) -> None:
        self._name = name
        self._expected = expected
        self._raw = _Interruptible(_opened(name))
        self._content: io.BufferedReader | None = None

    @property
    def total_bytes(self) -> int | None:
        """Size of the file as it lies on disk; None for what is no regular file."""
        return self._raw.size

    def read_bytes(self) -> int:
        """How much of the file on disk has been read."""
        return self._raw.taken

    def readline(self, most: int) -> bytes:
        return self._opened_content().readline(most)

    def read1(self, most: int) -> bytes:
        """At most so many bytes, as soon as there are any; none at the end."""
        return self._opened_content().read1(most)

    def interrupt(self) -> None:
        """A read that waits in another thread for a silent pipe finds its end instead."""
        self._raw.interrupted = True

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _opened_content(self) -> io.BufferedReader:
        if self._content is None:
            self._content = self._unpacked(self._raw)
        return self._content

    def _unpacked(self, raw: io.RawIOBase) -> io.BufferedReader:
        head = _head(raw)
        if head in _REFUSED:
            raise UsageError(
                f"{self._name}: is {_REFUSED[head]}; expected {self._expected} in UTF-8, plain or packed "
                "with gzip, bzip2 or xz"
            )
        whole: io.BufferedReader = io.BufferedReader(_Continued(head, raw), _READ_BYTES)
        return self._unpacked(_UNPACKERS[head](whole)) if head in _UNPACKERS else whole


def lines_of(path: Path, expected: str) -> Iterator[tuple[int, bytes]]:
    """Lines that aren't blank, by their number from 1 on, each cut after MAX_LINE_BYTES.

    Raises UsageError, which names what was `expected`, if the file can't be read to its end.
    """
    try:
        with Input(str(path), expected) as source:
            lines = iter(partial(source.readline, MAX_LINE_BYTES), b"")
            for number, line in enumerate(lines, start=1):
                text = line.removeprefix(codecs.BOM_UTF8)
                if text and not text.isspace():
                    yield number, text
                if len(line) == MAX_LINE_BYTES:
                    _pass_over_rest(line, source)
    except READ_ERRORS as error:
        raise UsageError(f"{path}: cannot be read ({reason_of(error)}); expected {expected}") from None


def reason_of(error: Exception) -> str:
    """Why reading ended, for one of READ_ERRORS."""
    return (isinstance(error, OSError) and error.strerror) or "damaged or cut off"


def is_parquet(path: Path) -> bool:
    """Whether it begins so. False for what can't be read, too: `lines_of` says why."""
    try:
        with path.open("rb") as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except OSError:
        return False


@contextmanager
def at_rest(path: Path) -> Iterator[Path]:
    """A file that can be read several times: itself, or of a pipe a copy that is gone afterwards."""
    if not path.is_fifo():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="streamer-input-") as folder:
        copy = Path(folder) / path.name
        with path.open("rb") as pipe, copy.open("wb") as file:
            shutil.copyfileobj(pipe, file, _READ_BYTES)
        yield copy


class _Interruptible(io.RawIOBase):
    """A file or pipe whose reads don't outlast `interrupted`: a thread that waits in one can't be ended."""

    def __init__(self, file: io.FileIO) -> None:
        status = os.fstat(file.fileno())
        self._file = file
        self._waits = not stat.S_ISREG(status.st_mode)
        self.size = None if self._waits else status.st_size
        self.taken = 0
        self.interrupted = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while self._waits and not select.select([self._file], [], [], _POLL_S)[0]:
            if self.interrupted:
                return 0
        count = self._file.readinto(buffer) or 0
        self.taken += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Continued(io.RawIOBase):
    """A beginning that was read already, then the rest."""

    def __init__(self, head: bytes, rest: io.RawIOBase) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if not self._head:
            return self._rest.readinto(buffer) or 0
        view = memoryview(buffer)
        count = min(len(view), len(self._head))
        view[:count], self._head = self._head[:count], self._head[count:]
        return count


def _opened(name: str) -> io.FileIO:
    if name == STDIN:
        if sys.stdin is None:
            raise OSError(0, "it is closed")
        return io.FileIO(sys.stdin.fileno(), closefd=False)
    return Path(name).open("rb", buffering=0)


def _pass_over_rest(line: bytes, source: Input) -> None:
    while len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
        line = source.readline(MAX_LINE_BYTES)


def _head(raw: io.RawIOBase) -> bytes:
    """The first bytes: one of _MAGIC, or as many as show that they are none."""
    head = b""
    while head not in _MAGIC and any(magic.startswith(head) for magic in _MAGIC):
        more = raw.read(1)
        if not more:
            break
        head += more
    return head
