"""`streamer erase`: visitors who asked to be forgotten."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say

if TYPE_CHECKING:
    from streamer.operations.leftovers import Left
    from streamer.settings import Settings

app = new_app()


@app.command()
def erase(
    ctx: typer.Context,
    visitor: Annotated[
        list[str] | None, typer.Option("--visitor", metavar="ID", help="A visitor_id; repeatable.")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--file", metavar="FILE|-", help="One visitor_id a line; - is standard input."),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Wait for the workers, then read all topics: what is left, until when."
        ),
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0, metavar="S", help="With --verify: wait at most S seconds.")
    ] = 60,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; with --verify, say what there is now.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Erase visitors: clicks that arrived up to now are dropped, state and latest intents are removed.

    What is in the topics already (clicks, late clicks, dead letters, embeddings, intents) waits for the end
    of its retention. Exit code 0 says that the erasures are written, and with --verify that all workers have
    taken them in and neither state nor latest intents of these visitors are there; else 1.
    """
    from streamer.kafka.erase import checked_visitors, listed_visitors

    visitors = checked_visitors([*(visitor or ()), *(listed_visitors(file) if file else ())])
    settings = ctx.obj.settings()
    moment, taken_in, left = asyncio.run(_erase(settings, visitors, verify, timeout, dry_run))
    _report(len(visitors), moment, taken_in, left, json)
    if left is not None and not (left.is_erased and (taken_in or dry_run)):
        raise typer.Exit(1)


async def _erase(
    settings: Settings, visitors: list[str], verify: bool, timeout_s: float, dry_run: bool
) -> tuple[int | None, bool | None, Left | None]:
    """The moment, whether the workers have taken it in, and what is left; None: not done, not asked for."""
    from streamer.kafka.erase import erase
    from streamer.operations.leftovers import wait_for_tombstones, what_is_left

    moment = taken_in = None
    if not dry_run:
        moment, last = await erase(settings, visitors, requested_at=int(time.time() * 1000))
        if verify:
            taken_in = await wait_for_tombstones(settings, visitors, moment, timeout_s)
        moment = last
    return moment, taken_in, await what_is_left(settings, visitors) if verify else None


def _report(visitors: int, moment: int | None, taken_in: bool | None, left: Left | None, json: bool) -> None:
    if json:
        item: dict[str, object] = {"visitors": visitors, "moment": moment}
        if left is not None:
            item |= {
                "taken_in": taken_in,
                "open_sessions": left.open_sessions,
                "latest_intents": left.latest_intents,
                "left": [vars(topic) for topic in left.topics],
                "unknown": left.unknown,
            }
        print_json(item)
        return
    from streamer.cli.rendering import as_time

    if moment is not None:
        say(f"erasure of {visitors:,} visitors written: clicks that arrived up to {as_time(moment)} go")
    if taken_in is False:
        say("not every partition's worker has taken it in yet: does one run? It will when it does")
    if left is not None:
        say(f"open sessions: {left.open_sessions:,}, latest intents: {left.latest_intents:,}")
        for topic in left.topics:
            until = f", kept until {as_time(topic.kept_until)}" if topic.kept_until else ""
            say(f"{topic.topic}: {topic.records:,} records left{until}")
        if left.unknown:
            say(f"{left.unknown:,} visitors are in no topic: long gone, or their ids are written otherwise")
