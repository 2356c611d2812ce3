"""`streamer subscribe`: what the product has published, decoded, one record a line."""

from __future__ import annotations

import asyncio
import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.lazy import new_app

if TYPE_CHECKING:
    from streamer.kafka.start import Start
    from streamer.settings import Settings

app = new_app()

NOTICE_AFTER_S = 5
"""Somebody who sees nothing for so long wants to know why."""


class Feed(StrEnum):
    intents = "intents"
    embeddings = "embeddings"
    visitors = "visitors"
    users = "users"
    links = "links"
    lookups = "lookups"
    late = "late"
    dlq = "dlq"
    shadow_intents = "shadow_intents"
    shadow_embeddings = "shadow_embeddings"

    @property
    def is_decoded(self) -> bool:
        """Ours, in Avro; the others hold the original bytes of a click."""
        return self not in (Feed.late, Feed.dlq)


@app.command()
def subscribe(
    ctx: typer.Context,
    feed: Annotated[Feed, typer.Argument(metavar="|".join(Feed), help="What to read.")],
    start: Annotated[
        str, typer.Option("--from", metavar="earliest|latest|TIME", help="Where to begin.")
    ] = "earliest",
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="End after N records.")
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0.1, metavar="S", help="End after S seconds without a record."),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Late and dlq: show the original click, unscrubbed.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Read decoded records, committed ones only, without joining a consumer group."""
    from streamer.kafka.start import parse_start

    begin = parse_start(start, int(time.time() * 1000))
    settings = ctx.obj.settings()
    asyncio.run(_print_records(settings, feed, begin, limit, timeout, raw, json))


async def _print_records(
    settings: Settings,
    feed: Feed,
    begin: Start,
    limit: int | None,
    timeout_s: float | None,
    raw: bool,
    json: bool,
) -> None:
    from streamer.cli.output import print_json
    from streamer.cli.rendering import as_json, as_line
    from streamer.kafka.subscribe import records
    from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup

    topic = getattr(settings.topics, feed.value)
    lookup = SchemaLookup(settings.registry, COMMAND_PATIENCE_S)
    notice = None
    if timeout_s is None:
        notice = asyncio.get_running_loop().call_later(NOTICE_AFTER_S, _say_what_is_waited_for, topic)
    async for record in records(settings.kafka, topic, begin, limit, timeout_s):
        if notice is not None:
            notice.cancel()
        shown = await lookup.own_record(record) if feed.is_decoded else record
        item = as_json(shown, feed.is_decoded, raw)
        if json:
            print_json(item)
        else:
            print(as_line(item), flush=True)


def _say_what_is_waited_for(topic: str) -> None:
    typer.echo(f"waiting for records in {topic}; Ctrl-C ends, as --timeout S does by itself", err=True)
