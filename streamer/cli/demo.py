"""`streamer demo`: the whole product on one machine, in front of one's eyes."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

import typer

from streamer.cli.click_source import ClickSource
from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say

app = new_app()

PLAY_S = 45
"""How long the demo plays a file by default, whatever its own length."""


@app.command()
def demo(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="JSONL or JSONL.gz clicks [default: the sample].")
    ] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="All clicks at once, no view; print a summary.")
    ] = False,
    speed: Annotated[
        float | None,
        typer.Option(
            "--speed", min=0.01, metavar="X", help="Event time over real time [default: done in 45 s]."
        ),
    ] = None,
    source: ClickSource = None,
    stay: Annotated[
        bool, typer.Option("--stay", help="Stay when all is played, for the live page, until Ctrl-C.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Everything at once on this machine: a real Kafka, topics, a worker, clicks, intents, customers.

    The broker lives in a temporary directory and is gone afterwards. Where the extra `ui` is installed, a
    live page shows the same in a browser.
    """
    from rich.live import Live

    from streamer import sample
    from streamer.demo.pacing import extent_of, time_of
    from streamer.demo.page import live_page
    from streamer.demo.play import play
    from streamer.demo.view import DemoProgress, live_view, summary
    from streamer.kafka.embedded import EmbeddedKafka
    from streamer.line_file import at_rest
    from streamer.sources import time_reader

    with (
        at_rest(file or sample.path()) as clicks,
        tempfile.TemporaryDirectory(prefix="streamer-demo-") as folder,
    ):
        shape = ctx.obj.settings(clicks__source=source).clicks
        extent = extent_of(clicks, time_reader(shape, time_of))
        seen = DemoProgress(clicks_total=extent.clicks)
        say("starting Kafka ...")
        with EmbeddedKafka(Path(folder), say=say) as broker:
            settings = ctx.obj.settings(
                kafka__bootstrap_servers=broker.bootstrap,
                registry__url="",  # the demo has none
                log__level="error",
                clicks__source=source,
            )
            say(f"Kafka runs at {broker.bootstrap}; sending {extent.clicks:,} clicks of {clicks.name}")
            quiet = headless or json
            pace = None if quiet else speed or max(extent.seconds / PLAY_S, 1.0)
            redrawing = not quiet and typer.get_text_stream("stdout").isatty()
            view = Live(get_renderable=lambda: live_view(seen), refresh_per_second=8)
            options = ctx.obj.as_options()
            with nullcontext() if quiet else live_page(settings, options) as link:
                if link is not None:
                    say(f"live page: {link}")
                with view if redrawing else nullcontext():
                    asyncio.run(
                        play(
                            settings,
                            clicks,
                            seen,
                            speed=pace,
                            worker_options=options,
                            on_line=(lambda _: None) if quiet or redrawing else print,
                        )
                    )
                if link is not None and stay:
                    print(summary(seen))
                    say(f"live page until Ctrl-C: {link}")
                    _wait_until_interrupted()
                    return
    if json:
        print_json(seen.as_json())
    else:
        print(summary(seen))


def _wait_until_interrupted() -> None:
    with suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)
