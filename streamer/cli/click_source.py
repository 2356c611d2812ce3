"""The option that says what clicks look like: the setting `clicks.source`, for one command."""

from __future__ import annotations

from typing import Annotated

import typer

_HELP = "What clicks look like: native, a profile such as segment, or a mapping file."

ClickSource = Annotated[str | None, typer.Option("--source", metavar="NAME|FILE", help=_HELP)]
ClickShape = Annotated[str | None, typer.Option("--clicks", metavar="NAME|FILE", help=_HELP)]
"""The same, where --source says where clicks are."""
