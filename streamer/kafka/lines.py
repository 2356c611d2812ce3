"""Lines of a file, of a gzipped file or of standard input, as they come.

Lines keep their bytes as they are, without the line end. A source that is still being written to (a
pipe) is read as far as it goes, so that no line waits for those after it.
"""

from __future__ import annotations

import asyncio
import select
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Self, cast

from streamer.errors import StreamerError
from streamer.line_file import MAX_LINE_BYTES, unpacked

_CHUNK_BYTES = 1024 * 1024
_POLL_S = 0.2


class LinesError(StreamerError):
    """The source can't be read, or not to its end."""


class Lines:
    """`with Lines(name) as lines`, then `async for chunk in lines`: lists of lines.

    `name` is a path, or `-` for standard input.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_pipe = name == "-"
        self._raw = cast(IO[bytes], sys.stdin.buffer) if self._is_pipe else _opened(name)
        self.total_bytes = None if self._is_pipe else Path(name).stat().st_size
        """Size of the file as it lies on disk; none for standard input."""
        self._stream = self._raw if self._is_pipe else unpacked(self._raw)

    def read_bytes(self) -> int:
        """How much of the file on disk has been read."""
        return 0 if self._is_pipe else self._raw.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_pipe:
            self._stream.close()
            self._raw.close()

    async def __aiter__(self) -> AsyncIterator[list[bytes]]:
        rest: list[bytes] = []  # pieces of a line that has not ended yet
        while chunk := await self._read():
            head, *lines = chunk.split(b"\n")
            if sum(map(len, rest)) < MAX_LINE_BYTES:
                rest.append(head)
            if lines:
                complete = [b"".join(rest), *lines]
                rest = [complete.pop()]
                yield complete
        if last := b"".join(rest):
            yield [last]

    async def _read(self) -> bytes:
        # A thread can't be interrupted: it must not sit in a read of a pipe that nobody writes to.
        while self._is_pipe and not await asyncio.to_thread(_has_input, self._raw):
            pass
        try:
            return await asyncio.to_thread(self._stream.read1, _CHUNK_BYTES)  # type: ignore[attr-defined]
        except (OSError, EOFError, zlib.error) as error:
            raise LinesError(f"{self._name}: cannot be read on ({type(error).__name__}: damaged?)") from None


def _opened(name: str) -> IO[bytes]:
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise LinesError(f"{name}: cannot be read ({error.strerror})") from None


def _has_input(pipe: IO[bytes]) -> bool:
    return bool(select.select([pipe], [], [], _POLL_S)[0])
