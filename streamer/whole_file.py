"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from streamer.errors import StreamerError, UsageError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How `s3://bucket/file` begins, also as a Path, which leaves out a slash."""


class OutputError(StreamerError):
    """A file can't be written."""


@contextmanager
def whole_file(path: Path, beside: Path | None = None) -> Iterator[IO[bytes]]:
    """A file to write to. At the end it is on disk and takes its place. Raises OutputError.

    `beside`: where it is until then.
    """
    beside = beside or path.with_name(path.name + ".new")
    try:
        with _removed_on_failure(beside):
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> OutputError:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return OutputError(f"{path}: can't be written ({reason})")


def require_local(path: str | Path, option: str) -> None:
    """Raises UsageError for an address, which would be taken for a folder of this machine."""
    if _ADDRESS.match(str(path)):
        raise UsageError(
            f"{option} {path}: expected a file of this machine; copy it there or from there yourself"
        )


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
