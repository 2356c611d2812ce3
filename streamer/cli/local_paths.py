"""What a command writes to has to be on this machine: an address would become a folder of that name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from streamer.output_file import require_local


def local_path(option: str, metavar: str, help: str) -> Any:
    """An option that takes no address. Its callback raises UsageError."""
    return typer.Option(option, metavar=metavar, callback=_local, help=help)


def _local(param: typer.CallbackParam, path: Path | None) -> Path | None:
    if path is not None:
        require_local(path, param.opts[0])
    return path
