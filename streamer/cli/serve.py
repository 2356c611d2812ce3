"""`streamer serve`: the latest records of visitors and customers over HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from streamer.cli.lazy import new_app

app = new_app()


@app.command()
def serve(
    ctx: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", metavar="ADDRESS", help="Where to listen [default: 127.0.0.1].")
    ] = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="N", help="On which port [default: 8080].")
    ] = None,
    partitions: Annotated[
        str,
        typer.Option(
            "--partitions", metavar="all|N-N,...", help="Whose records to hold: a share of the topics."
        ),
    ] = "all",
) -> None:
    """Answer GET /v1/visitors/ID and /v1/users/ID until stopped; /openapi.json says the rest.

    The topics are read into memory first: /readyz says when. Settings are in the section [serve].
    """
    from streamer.serving.server import run_service
    from streamer.serving.share import parse_partitions

    share = parse_partitions(partitions)
    settings = ctx.obj.settings(serve__host=host, serve__port=port)
    # Not uvloop: of 24,000 requests over 64 connections 0.23 left 57 unanswered, and asyncio's own loop none.
    asyncio.run(run_service(settings, share))
