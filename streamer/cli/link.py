"""`streamer link`: who a visitor is, said by somebody who knows."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say, visible

if TYPE_CHECKING:
    from streamer.kafka.links_topic import LinkRecord, WrittenLink
    from streamer.settings import Settings

app = new_app()

Visitor = Annotated[str | None, typer.Argument(metavar="[VISITOR]", help="A visitor_id.")]
User = Annotated[str | None, typer.Argument(metavar="[USER]", help="A user_id.")]
File = Annotated[
    str | None,
    typer.Option(
        "--file", metavar="FILE|-", help="JSON lines with visitor_id and user_id; - is standard input."
    ),
]
Source = Annotated[
    str | None, typer.Option("--source", metavar="NAME", help="Who says so: app, crm or a matching job.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback(no_args_is_help=True)
def link() -> None:
    """Say which customer a visitor is, take it back, or list what was said."""


@app.command()
def add(
    ctx: typer.Context,
    visitor: Visitor = None,
    user: User = None,
    file: File = None,
    confidence: Annotated[
        float, typer.Option("--confidence", min=0, max=1, metavar="P", help="How sure that is, 0 to 1.")
    ] = 1.0,
    source: Source = None,
    json: Json = False,
) -> None:
    """Say that a visitor is a customer, from 'identity.lookback_days' before now on.

    Lines of a file may have a confidence and a source of their own. Exit code 0 says that every partition of
    the topic has every link; nothing is written where a line is no link.
    """
    _write(ctx.obj.settings(), "link", visitor, user, file, confidence, source, json)


@app.command()
def remove(
    ctx: typer.Context,
    visitor: Visitor = None,
    user: User = None,
    file: File = None,
    source: Source = None,
    json: Json = False,
) -> None:
    """Take back every tie of a visitor and a customer up to now, and the customer's sessions there.

    Exit codes as of 'streamer link add'.
    """
    _write(ctx.obj.settings(), "unlink", visitor, user, file, 1.0, source, json)


@app.command()
def ls(
    ctx: typer.Context,
    visitor: Annotated[
        str | None, typer.Option("--visitor", metavar="ID", help="Only of this visitor_id.")
    ] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Only of this user_id.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List links and unlinks that the topic holds, each once, and whether they are in effect.

    In effect: it ties sessions that close now, for it was neither taken back nor erased, and is within
    identity.lookback_days. Logins on the web are ties too, and not listed here.
    """
    from streamer.kafka.links_topic import read_links
    from streamer.rules_from_settings import identity_rules

    settings = ctx.obj.settings()
    rules = identity_rules(settings)
    since_ms = int(time.time() * 1000) - rules.lookback_ms
    written = asyncio.run(read_links(settings, rules, since_ms))
    for each in written.links:
        if visitor not in (None, each.visitor_id) or user not in (None, each.user_id):
            continue
        if json:
            print_json(vars(each))
        else:
            print(_line(each, written.partitions))
    if written.unreadable:
        say(f"{written.unreadable:,} records of {settings.topics.links} are no links")


def _write(
    settings: Settings,
    action: str,
    visitor: str | None,
    user: str | None,
    file: str | None,
    confidence: float,
    source: str | None,
    json: bool,
) -> None:
    from streamer.kafka.links_topic import write_links
    from streamer.kafka.start import as_time

    defaults: LinkRecord = {"action": action, "confidence": confidence, "source": source}
    links = _given(settings, defaults, visitor, user, file)
    _, last = asyncio.run(write_links(settings, links))
    if json:
        print_json({"topic": settings.topics.links, f"{action}s": len(links), "moment": last})
    else:
        where = f"every partition of {settings.topics.links}"
        say(f"{len(links):,} {action}s written to {where} by {as_time(last)}")


def _given(
    settings: Settings, defaults: LinkRecord, visitor: str | None, user: str | None, file: str | None
) -> list[LinkRecord]:
    from streamer.errors import UsageError
    from streamer.identity.links import LinkError
    from streamer.kafka.links_topic import checked_link, listed_links
    from streamer.rules_from_settings import identity_rules

    rules = identity_rules(settings)
    if file is not None and visitor is None:
        return listed_links(file, defaults, rules)
    if file is not None or visitor is None or user is None:
        raise UsageError("expected VISITOR USER, or --file with JSON lines")
    try:
        return [checked_link({"visitor_id": visitor, "user_id": user}, defaults, rules)]
    except LinkError as error:
        raise UsageError(str(error)) from None


def _line(link: WrittenLink, partitions: int) -> str:
    from streamer.kafka.start import as_time

    parts = [as_time(link.at), visible(link.visitor_id), visible(link.user_id), link.action]
    if link.action == "link":
        parts += [f"{link.confidence:g}", "in effect" if link.in_effect else "not in effect"]
    if link.source is not None:
        parts.append(f"by {visible(link.source)}")
    if link.partitions < partitions:
        parts.append(f"in {link.partitions} of {partitions} partitions only")
    return "  ".join(parts)
