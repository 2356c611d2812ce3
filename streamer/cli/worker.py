"""`streamer worker`: clicks in, sessions, embeddings and intents out."""

from __future__ import annotations

import time
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from streamer.cli.errors import report
from streamer.cli.lazy import new_app

app = new_app()


class Stages(StrEnum):
    all = "all"
    clicks = "clicks"
    identity = "identity"


@app.command()
def worker(
    ctx: typer.Context,
    processes: Annotated[
        int, typer.Option("--processes", min=1, metavar="N", help="Worker processes on this machine.")
    ] = 1,
    drain: Annotated[
        bool,
        typer.Option(
            "--drain",
            help="Stop at the end offsets read at start, close what is open, publish, exit; waits for "
            "partitions that others of the group have.",
        ),
    ] = False,
    partitions: Annotated[
        str,
        typer.Option(
            "--partitions",
            metavar="all|assigned|N,...",
            help="With --drain: exit as soon as these are drained; assigned: what this worker gets.",
        ),
    ] = "all",
    timeout: Annotated[
        float | None,
        typer.Option(
            "--timeout",
            min=0,
            metavar="S",
            help="With --drain: exit 1 unless done within S seconds.",
        ),
    ] = None,
    accept_rules: Annotated[
        bool,
        typer.Option(
            "--accept-rules",
            help="Go on from state that was made under other session, watermark or late settings.",
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
    stages: Annotated[
        Stages,
        typer.Option(
            "--stages",
            help="What to run: all, clicks (sessions and intents), or identity (customers' records), so that "
            "each can be scaled by itself.",
        ),
    ] = Stages.all,
    share_outputs: Annotated[
        bool,
        typer.Option(
            "--share-outputs", help="Publish to topics that another app has published to; needed once."
        ),
    ] = False,
) -> None:
    """Turn clicks into sessions, embeddings and intents until stopped."""
    from streamer.errors import UsageError
    from streamer.kafka.start import parse_start
    from streamer.worker import event_loop
    from streamer.worker.options import DrainOptions, WorkerOptions, parse_scope
    from streamer.worker.processes import run_processes
    from streamer.worker.run import end_for_sure, run_worker

    if not drain and (partitions != "all" or timeout is not None):
        raise UsageError("--partitions and --timeout say how to drain: they need --drain")
    if stages == Stages.identity and partitions != "all":
        raise UsageError("--partitions says which clicks to drain: --stages identity reads none")
    options = WorkerOptions(
        start=parse_start(start, int(time.time() * 1000)),
        drain=DrainOptions(parse_scope(partitions), timeout) if drain else None,
        accept_rules=accept_rules,
        share_outputs=share_outputs,
        stages=stages.value,
    )
    settings = ctx.obj.settings()
    if stages == Stages.identity and not settings.identity.enabled:
        raise UsageError("--stages identity: identity.enabled is false, so there is nothing to run")
    if processes > 1:
        code = run_processes(settings, processes, options, partial(report, debug=ctx.obj.debug))
        raise typer.Exit(code)
    event_loop.run(
        run_worker(
            settings,
            options=options,
            instance_id=settings.app.instance_id,
            on_stopping=end_for_sure,
        ),
        settings.kafka,
    )
