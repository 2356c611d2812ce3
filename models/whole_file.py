"""Files that are written whole or not at all, also when the disk is full or the power goes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4


@contextmanager
def whole_file(path: Path, beside: Path | None = None) -> Iterator[BinaryIO]:
    """A file to write, which replaces `path` at the end. An OSError names `path`.

    `beside`: where it is until then; by default under a name of its own in the folder of `path`, which is
    made if it is missing.
    """
    try:
        if beside is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f"{path.name}.{uuid4().hex}.new")
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_whole(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)
