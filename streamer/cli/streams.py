"""Standard input, output and error of this process, whatever the caller made of them.

- What standard output can't take (a full disk, a closed descriptor) is an error of one line and exit code 1.
  A reader that has gone away (`| head`) stays BrokenPipeError, which ends a command quietly.
- A closed descriptor is opened anew, for nothing, so that no file or socket of ours gets its number.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from streamer.errors import StreamerError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(StreamerError):
    """Standard output does not take what is printed."""


def secure_standard_streams() -> None:
    """Leaves alone what somebody who calls us in their own process has put in place of them."""
    # Each the wrong way round, so that using one that was closed still fails.
    for stream, flags in ((sys.stdin, os.O_WRONLY), (sys.stdout, os.O_RDONLY), (sys.stderr, os.O_WRONLY)):
        if stream is None:
            os.open(os.devnull, flags)  # the lowest free number, which is the stream's
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded_output()


class _StandardOutput(io.FileIO):
    """Raises OutputError, once: what is still buffered then would only fail again at the end."""

    _failed = False

    def write(self, data: ReadableBuffer) -> int:
        if self._failed:
            return len(memoryview(data).cast("B"))
        try:
            return super().write(data)
        except OSError as error:
            self._failed = True
            if isinstance(error, BrokenPipeError):
                raise
            raise OutputError(f"standard output: {error.strerror}") from None


def _guarded_output() -> io.TextIOWrapper:
    encoding = sys.stdout.encoding if sys.stdout else "utf-8"
    raw = _StandardOutput(1, "w", closefd=False)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=raw.isatty())
