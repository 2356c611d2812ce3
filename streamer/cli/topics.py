"""`streamer topics`: declare the product's topics on a cluster, or compare them with what is declared."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say

if TYPE_CHECKING:
    from streamer.kafka.topics import Drift

app = new_app()

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback(no_args_is_help=True)
def topics() -> None:
    """Create the topics, add partitions to them, or check them for drift."""


@app.command()
def create(ctx: typer.Context, json: Json = False) -> None:
    """Create the topics that are missing; existing ones are never altered, only compared."""
    from streamer.kafka.topics import create_topics, declared_topics, find_drift

    settings = ctx.obj.settings()
    wanted = declared_topics(settings)
    created = asyncio.run(create_topics(settings.kafka, wanted))
    if not json:
        for topic in wanted:
            say(f"{topic.name}: {'created' if topic.name in created else 'was there'}")
    more: dict[str, object] = {"created": created}
    if settings.registry.url:
        from streamer.registry.outputs import registered_outputs

        register = settings.registry.auto_register
        schemas = asyncio.run(registered_outputs(settings, register=register))
        more["schemas"] = {each.subject: each.id for each in schemas}
        for each in () if json else schemas:
            say(f"{each.subject}: {'not registered' if each.id is None else f'schema {each.id}'}")
    _report(asyncio.run(find_drift(settings.kafka, wanted)), more, json)


@app.command()
def grow(ctx: typer.Context, json: Json = False) -> None:
    """Add partitions to topics that have fewer than topics.partitions, and move the visitors' ties along;
    'More partitions' in docs/operations.md says what to do before and after."""
    from streamer.kafka.topics import declared_topics, find_drift
    from streamer.operations.growth import grow

    settings = ctx.obj.settings()
    grown, moved = asyncio.run(grow(settings))
    if not json:
        for name, (before, after) in grown.items():
            say(f"{name}: {before} partitions, now {after}")
        say(f"the ties of {moved} visitors have moved" if moved else "no visitor's ties had to move")
    drift = asyncio.run(find_drift(settings.kafka, declared_topics(settings)))
    _report(drift, {"grown": list(grown), "moved_visitors": moved}, json)


@app.command()
def check(ctx: typer.Context, json: Json = False) -> None:
    """Compare the topics with what is declared; exit code 1 if anything differs."""
    from streamer.kafka.topics import declared_topics, find_drift

    settings = ctx.obj.settings()
    wanted = declared_topics(settings)
    drift = asyncio.run(find_drift(settings.kafka, wanted))
    if not json and not drift:
        say(f"{len(wanted)} topics at {settings.kafka.bootstrap_servers} are as declared")
    _report(drift, {}, json)


def _report(drift: list[Drift], more: dict[str, object], json: bool) -> None:
    if json:
        print_json({**more, "drift": [vars(each) for each in drift]})
    else:
        for each in drift:
            say(f"drift: {each}")
    if drift:
        raise typer.Exit(1)
