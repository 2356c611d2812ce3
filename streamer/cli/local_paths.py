"""What a command writes to has to be on this machine: an address would become a folder of that name."""

from __future__ import annotations

from pathlib import Path

import typer

from streamer.output_file import require_local


def local(param: typer.CallbackParam, path: Path | None) -> Path | None:
    """Callback of an option. Raises UsageError for an address."""
    if path is not None:
        require_local(path, param.opts[0])
    return path
