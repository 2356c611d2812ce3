"""What a command writes to: a path of this machine, where an address would become a folder of that name."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import typer

from streamer.output_file import require_local, require_writable


def local_path(option: str, metavar: str, help: str) -> Any:
    """An option that takes no address. Its callback raises UsageError."""
    return typer.Option(option, metavar=metavar, callback=_local, help=help)


def out_path(option: str, metavar: Literal["DIR", "FILE"], help: str) -> Any:
    """As `local_path`; what is there must not be in the way, so that nothing is computed for nothing."""

    def checked(param: typer.CallbackParam, path: Path | None) -> Path | None:
        _local(param, path)
        if path is not None:
            require_writable(path, param.opts[0], is_folder=metavar == "DIR")
        return path

    return typer.Option(option, metavar=metavar, callback=checked, help=help)


def _local(param: typer.CallbackParam, path: Path | None) -> Path | None:
    if path is not None:
        require_local(path, param.opts[0])
    return path
