"""`streamer doctor`: is all well, and if not, what to do."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, visible

app = new_app()

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@app.command()
def doctor(
    ctx: typer.Context,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check configuration, bundle, brokers, topics, clocks, keys and lag; exit code 1 if anything fails."""
    from streamer.operations.doctor import examine, worst

    settings = ctx.obj.settings()
    findings = asyncio.run(examine(settings, lambda: int(time.time() * 1000)))
    state = worst(findings)
    if json:
        print_json({"state": state, "findings": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            todo = f"\n      -> {visible(finding.todo)}" if finding.todo else ""
            print(f"{_MARKS[finding.state]}  {finding.check}: {visible(finding.found)}{todo}")
    if state == "fail":
        raise typer.Exit(1)
