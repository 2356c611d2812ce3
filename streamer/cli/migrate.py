"""`streamer migrate`: more partitions for a running app, in one command that can be run again."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.errors import report
from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say

if TYPE_CHECKING:
    from streamer.operations.growth import Growth
    from streamer.operations.migration import Migration
    from streamer.settings import Settings

app = new_app()


@app.command()
def migrate(
    ctx: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would be done.")] = False,
    processes: Annotated[
        int, typer.Option("--processes", min=1, metavar="N", help="Processes that drain.")
    ] = 1,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0, metavar="S", help="Give up unless drained within S seconds."),
    ] = None,
    leave_clicks: Annotated[
        bool,
        typer.Option("--leave-clicks", help="Its owner adds partitions to the clicks topic, after this."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Give the app as many partitions as topics.partitions says: close all open sessions, move what is known
    of visitors to where their next clicks come, and add the partitions, those of the clicks last.

    No worker may run meanwhile. If it is interrupted, run it again: it goes on where it was. 'More
    partitions' in docs/operations.md says what visitors who are on the site notice.
    """
    from streamer.operations.migration import look
    from streamer.operations.migration import migrate as do

    settings = ctx.obj.settings()
    plan = asyncio.run(look(settings, leave_clicks=leave_clicks))
    done = None
    if not json:
        _say_plan(plan)
    if yes and not plan.is_done:
        drain = partial(_drain, settings, processes, timeout, debug=ctx.obj.debug)
        done = do(settings, plan, drain, say, leave_clicks=leave_clicks)
    if json:
        print_json({"migrated": done is not None, **plan._asdict(), "moved_visitors": done and done.visitors})
    else:
        _say_end(settings, plan, done, leave_clicks=leave_clicks)


def _drain(settings: Settings, processes: int, timeout_s: float | None, *, debug: bool) -> None:
    from streamer.errors import StreamerError
    from streamer.operations.growth import GrowthError
    from streamer.worker.options import DrainOptions, WorkerOptions
    from streamer.worker.processes import run_processes

    options = WorkerOptions(drain=DrainOptions(timeout_s=timeout_s))
    try:
        code = run_processes(settings, processes, options, partial(report, debug=debug))
    except StreamerError:
        code = 1
    if code:
        raise GrowthError("the drain did not come to its end, so no partition was added: run this again")


def _say_plan(plan: Migration) -> None:
    if plan.is_done:
        say(f"nothing to do: every topic by visitor has {plan.partitions} partitions")
        return
    if plan.drains:
        say("to do: close and publish all open sessions (drain)")
    for name, (now, then) in plan.topics.items():
        say(f"to do: {name}, {now} partitions, to have {then}")
    if plan.ties is not None:
        say(f"to do: move the ties of visitors from {plan.ties} to {plan.partitions} partitions")
    for member in plan.members:
        say(f"to stop before: {member}")


def _say_end(settings: Settings, plan: Migration, done: Growth | None, *, leave_clicks: bool) -> None:
    if done is None:
        if not plan.is_done:
            say("nothing was changed: --yes does it")
        return
    if done.visitors:
        say(f"the ties of {done.visitors} visitors have moved")
    if leave_clicks:
        say(f"now {settings.session_source} has to get {plan.partitions} partitions; start the workers then")
    else:
        say("done: start the workers")
