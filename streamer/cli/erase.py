"""`streamer erase`: visitors and customers who asked to be forgotten."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say
from streamer.errors import UsageError

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
    user: Annotated[
        list[str] | None, typer.Option("--user", metavar="ID", help="A customer's user_id; repeatable.")
    ] = None,
    users_file: Annotated[
        str | None,
        typer.Option("--users-file", metavar="FILE|-", help="One user_id a line; - is standard input."),
    ] = None,
    with_visitors: Annotated[
        bool,
        typer.Option("--with-visitors", help="Also the visitors behind these customers' records and links."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Wait for the workers, then read all topics: what is left, until when."
        ),
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0,
            metavar="S",
            help="With --verify, or clicks.keyed = false: wait for workers at most S seconds.",
        ),
    ] = 60,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; with --verify, say what there is now.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Erase visitors: clicks that arrived up to now are dropped, state and latest intents are removed.

    Erase customers: their ties and their records up to now are removed. Their clicks are their visitors':
    --with-visitors erases those too.
    What is in the topics already (clicks, late clicks, dead letters, embeddings, intents) waits for the end
    of its retention. Exit code 0 says that the erasures are written, and with --verify that all workers have
    taken them in and neither state nor latest records of these people are there; else 1.
    """
    from streamer.kafka.erase import checked_ids, listed_ids

    visitors = checked_ids([*(visitor or ()), *(listed_ids(file, "visitor_id") if file else ())], "visitor")
    users = checked_ids(
        [*(user or ()), *(listed_ids(users_file, "user_id") if users_file else ())], "customer"
    )
    if not visitors and not users:
        raise UsageError("nobody to erase: give --visitor, --file, --user or --users-file")
    if with_visitors and not users:
        raise UsageError("--with-visitors needs --user or --users-file: whose visitors?")
    settings = ctx.obj.settings()
    if with_visitors:
        visitors = _with_theirs(settings, visitors, users)
    moment, taken_in, left = asyncio.run(_erase(settings, visitors, users, verify, timeout, dry_run))
    _report(len(visitors), len(users), moment, taken_in, left, json)
    if left is not None and not (left.is_erased and (taken_in or dry_run)):
        raise typer.Exit(1)


def _with_theirs(settings: Settings, visitors: list[str], users: list[str]) -> list[str]:
    from streamer.operations.leftovers import visitors_of_users

    if not settings.identity.enabled:
        raise UsageError(
            "--with-visitors needs identity.enabled: without it nobody knows whose visitors they are"
        )
    return list(dict.fromkeys([*visitors, *asyncio.run(visitors_of_users(settings, users))]))


async def _erase(
    settings: Settings, visitors: list[str], users: list[str], verify: bool, timeout_s: float, dry_run: bool
) -> tuple[int | None, bool | None, Left | None]:
    """The moment, whether the workers have taken it in, and what is left; None: not done, not asked for."""
    from streamer.kafka.erase import erase
    from streamer.operations.leftovers import check_all_by_visitor, people, wait_until_erased, what_is_left

    moment = taken_in = None
    wanted = people(visitors, users)
    if not dry_run:
        if visitors:
            await check_all_by_visitor(settings, timeout_s)
        moment, last = await erase(settings, visitors, users, requested_at=int(time.time() * 1000))
        if verify:
            taken_in = await wait_until_erased(settings, wanted, moment, timeout_s)
        moment = last
    return moment, taken_in, await what_is_left(settings, wanted) if verify else None


def _report(
    visitors: int, users: int, moment: int | None, taken_in: bool | None, left: Left | None, json: bool
) -> None:
    if json:
        item: dict[str, object] = {"visitors": visitors, "users": users, "moment": moment}
        if left is not None:
            item |= {
                "taken_in": taken_in,
                "open_sessions": left.open_sessions,
                "latest_intents": left.latest_intents,
                "user_records": left.user_records,
                "identity_states": left.identity_states,
                "left": [vars(topic) for topic in left.topics],
                "unknown": left.unknown,
            }
        print_json(item)
        return
    from streamer.kafka.start import as_time

    if moment is not None:
        whom = " and ".join(
            f"{count:,} {what}" for count, what in ((visitors, "visitors"), (users, "customers")) if count
        )
        say(f"erasure of {whom} written: what arrived up to {as_time(moment)} goes")
    if taken_in is False:
        say("not every partition's worker has taken it in yet: does one run? It will when it does")
    if left is not None:
        say(f"open sessions: {left.open_sessions:,}, latest intents: {left.latest_intents:,}")
        say(f"customers' records: {left.user_records:,}, states of identity: {left.identity_states:,}")
        for topic in left.topics:
            until = f", kept until {as_time(topic.kept_until)}" if topic.kept_until else ""
            say(f"{topic.topic}: {topic.records:,} records left{until}")
        if left.unknown:
            say(f"{left.unknown:,} people are in no topic: long gone, or their ids are written otherwise")
