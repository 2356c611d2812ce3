"""Files that a command was asked to write: whole or not at all, and a failure is an error of the command."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from streamer.errors import StreamerError, UsageError
from streamer.models.whole_file import whole_file

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""How `s3://bucket/file` begins, also as a Path, which leaves out a slash."""


class OutputError(StreamerError):
    """A file can't be written."""


@contextmanager
def output_file(path: Path, beside: Path | None = None) -> Iterator[BinaryIO]:
    """As `whole_file`. Raises OutputError."""
    try:
        with whole_file(path, beside) as file:
            yield file
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: str | Path, error: OSError) -> OutputError:
    reason = os.strerror(error.errno) if error.errno else type(error).__name__
    return OutputError(f"{path}: can't be written ({reason})")


def require_writable(path: Path, option: str, *, is_folder: bool) -> None:
    """Raises UsageError if the file, or a file in the folder, clearly couldn't be written."""
    if not is_folder and path.is_dir():
        raise UsageError(f"{option} {path}: is a folder; expected a file")
    folder = path if is_folder else path.parent
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise UsageError(f"{option} {path}: {there} is a file; expected a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {path}: {there} can't be written to; expected a folder that can")


def require_local(path: str | Path, option: str) -> None:
    """Raises UsageError for an address, which would be taken for a folder of this machine."""
    if _ADDRESS.match(str(path)):
        raise UsageError(
            f"{option} {path}: expected a file of this machine; copy it there or from there yourself"
        )
