"""`streamer sink`: copies of the latest records where others look them up."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from streamer.cli.lazy import new_app

app = new_app()


@app.callback(no_args_is_help=True)
def sink() -> None:
    """Copy visitors and customers to where they are looked up; what was erased goes there too."""


@app.command()
def redis(
    ctx: typer.Context,
    drain: Annotated[
        bool, typer.Option("--drain", help="End when all is copied that is in the topics at the start.")
    ] = False,
    partitions: Annotated[
        str,
        typer.Option("--partitions", metavar="all|N-N,...", help="What to copy: a share of the topics."),
    ] = "all",
) -> None:
    """Keep the latest record of each visitor and customer in Redis or Valkey, until stopped.

    Settings are in the section [sink.redis].
    """
    from streamer.serving.share import parse_partitions
    from streamer.sink.run import run_redis_sink

    share = parse_partitions(partitions)
    asyncio.run(run_redis_sink(ctx.obj.settings(), share, drain))
