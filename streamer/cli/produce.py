"""`streamer produce`: clicks from a file or from standard input to the clicks topic."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.click_source import ClickSource
from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say

if TYPE_CHECKING:
    from streamer.kafka.lines import Lines, Rows
    from streamer.kafka.produce import Produced

app = new_app()


@app.command()
def produce(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            help="JSON lines, plain or packed with gzip, bzip2 or xz, or parquet; - is standard input.",
        ),
    ],
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, metavar="N", help="At most N clicks a second.")
    ] = None,
    source: ClickSource = None,
    json: Annotated[bool, typer.Option("--json", help="Print the counts as one JSON object.")] = False,
) -> None:
    """Send clicks, one a line, keyed by visitor.

    Lines without a readable visitor are sent without a key; the worker turns them into dead letters, or
    drops them if they have consent false.
    Exit code 1 if lines were too large for the topic.
    """
    from streamer.kafka.lines import clicks_in
    from streamer.kafka.produce import Produced, produce

    settings = ctx.obj.settings(clicks__source=source)
    produced = Produced()
    try:
        with clicks_in(file, settings.clicks.source) as lines, _progress(lines) as show:
            asyncio.run(produce(settings, lines, rate, show, produced, _warn))
    finally:
        if produced.seconds:  # otherwise it never began
            _summarise(produced, settings.topics.clicks, json)
    if produced.too_large:
        raise typer.Exit(1)


def _warn(said: str) -> None:
    say(f"warning: {said}")


@contextmanager
def _progress(lines: Lines | Rows) -> Iterator[Callable[[Produced], None]]:
    """A progress bar, where somebody looks at it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.fields[sent]:,} clicks"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=lines.total_bytes, sent=0)
        yield lambda produced: progress.update(task, completed=lines.read_bytes(), sent=produced.sent)


def _summarise(produced: Produced, topic: str, json: bool) -> None:
    if json:
        print_json({"topic": topic, **vars(produced)})
        return
    per_s = produced.sent / produced.seconds if produced.seconds else 0.0
    say(f"{produced.sent:,} clicks sent to {topic} in {produced.seconds:.1f} s ({per_s:,.0f} a second)")
    for count, what in (
        (produced.without_key, "of them have no readable visitor: dead letters, unless consent is false"),
        (produced.blank, "blank lines were left out"),
        (produced.too_large, "lines were not sent: larger than the topic's max.message.bytes"),
    ):
        if count:
            say(f"{count:,} {what}")
