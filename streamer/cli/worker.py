"""`streamer worker`: clicks in, sessions, embeddings and intents out."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated

import typer

from streamer.cli.errors import explain
from streamer.cli.lazy import new_app

app = new_app()


@app.command()
def worker(
    ctx: typer.Context,
    processes: Annotated[
        int, typer.Option("--processes", min=1, metavar="N", help="Worker processes on this machine.")
    ] = 1,
    drain: Annotated[
        bool,
        typer.Option(
            "--drain", help="Stop at the end offsets read at start, close what is open, publish, exit."
        ),
    ] = False,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="earliest|latest|TIME",
            help="Where a partition begins that the group has no position in yet.",
        ),
    ] = "earliest",
) -> None:
    """Turn clicks into sessions, embeddings and intents until stopped."""
    from streamer.kafka.start import parse_start
    from streamer.worker import event_loop
    from streamer.worker.processes import run_processes
    from streamer.worker.run import end_for_sure, run_worker

    begin = parse_start(start, int(time.time() * 1000))
    settings = ctx.obj.settings()
    if processes > 1:
        code = run_processes(
            settings, processes, start=begin, drain=drain, explain=partial(explain, debug=ctx.obj.debug)
        )
        raise typer.Exit(code)
    event_loop.run(
        run_worker(
            settings,
            start=begin,
            drain=drain,
            instance_id=settings.app.instance_id,
            on_stopping=end_for_sure,
        ),
        settings.kafka,
    )
