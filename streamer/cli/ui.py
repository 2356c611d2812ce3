"""`streamer ui`: the live page."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import say

app = new_app()

BACK_S = 15 * 60
"""How far back the page begins by default."""


@app.command(name="ui")
def ui(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen [default: 127.0.0.1].")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", help="On which port [default: 8090].")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TIME", help="earliest, latest or a time [default: a quarter of an hour ago]."
        ),
    ] = None,
) -> None:
    """Show sessions as they close, why they got their label, shares of intents and the stream's health.

    The link that is printed lets in whoever has it. Settings are in the section [ui].
    """
    from streamer.kafka.start import parse_start
    from streamer.ui.server import run_page

    now_ms = int(time.time() * 1000)
    begin = now_ms - BACK_S * 1000 if start is None else parse_start(start, now_ms)
    settings = ctx.obj.settings(ui__host=host, ui__port=port)
    asyncio.run(run_page(settings, begin, say))
