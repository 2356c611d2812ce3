"""The console script `streamer`: one module per command, imported only when that command runs.

Exit codes: 0 done, 1 the work failed, 2 the call is wrong, 130 interrupted. What is printed as data goes
to standard output, everything else to standard error.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from streamer import __version__
from streamer.cli.errors import report
from streamer.cli.invocation import Invocation
from streamer.cli.lazy import LazyCommand, LazyGroup
from streamer.cli.streams import secure_standard_streams

COMMANDS = (
    LazyCommand(
        "demo", "streamer.cli.demo", "Everything at once on this machine: Kafka, worker, sample clicks."
    ),
    LazyCommand("init", "streamer.cli.init", "Write a settings file to begin with."),
    LazyCommand("kafka", "streamer.cli.kafka", "Start and stop a real Kafka on this machine."),
    LazyCommand("topics", "streamer.cli.topics", "Create the topics, or check them for drift."),
    LazyCommand("migrate", "streamer.cli.migrate", "Give an app more partitions."),
    LazyCommand("worker", "streamer.cli.worker", "Turn clicks into sessions, embeddings and intents."),
    LazyCommand("produce", "streamer.cli.produce", "Send clicks from a file."),
    LazyCommand("map", "streamer.cli.map", "Check or draft a mapping for clicks of another shape."),
    LazyCommand(
        "subscribe", "streamer.cli.subscribe", "Read intents, embeddings, late clicks or dead letters."
    ),
    LazyCommand("serve", "streamer.cli.serve", "Look up visitors and customers over HTTP."),
    LazyCommand("similar", "streamer.cli.similar", "Say whose sessions or profiles are nearest to one."),
    LazyCommand(
        "sink", "streamer.cli.sink", "Copy visitors and customers to Redis, Valkey, Parquet files or Iceberg."
    ),
    LazyCommand("ui", "streamer.cli.ui", "Watch sessions, intents and customers on a live page."),
    LazyCommand("doctor", "streamer.cli.doctor", "Check that all is well, and say what to do if not."),
    LazyCommand("metrics", "streamer.cli.metrics", "Print Prometheus rules and a Grafana dashboard."),
    LazyCommand("dlq", "streamer.cli.dlq", "List, show and replay dead letters."),
    LazyCommand("link", "streamer.cli.link", "Say which customer a visitor is, or take it back."),
    LazyCommand("erase", "streamer.cli.erase", "Erase visitors and customers who asked to be forgotten."),
    LazyCommand("acls", "streamer.cli.acls", "Print the permissions that each kind of client needs."),
    LazyCommand("replay", "streamer.cli.replay", "Run a stretch of the log, or a file, once more."),
    LazyCommand("verify", "streamer.cli.verify", "Check that the log, run again, gives what live published."),
    LazyCommand("explain", "streamer.cli.explain", "Say why a session got its label, click by click."),
    LazyCommand("model", "streamer.cli.model", "Train, look at and compare model bundles."),
)
"""In the order of `streamer --help`."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"streamer {__version__}")
        raise typer.Exit


def _global_options(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Settings file [default: streamer.toml].")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="One setting, such as session.gap_s=900; repeatable."
        ),
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Anonymous web clicks in, session embeddings and intents out, on Kafka."""
    invocation: Invocation = ctx.obj
    invocation.config = config
    invocation.overrides = overrides or []
    invocation.debug = debug


def command_line() -> LazyGroup:
    app = typer.Typer(
        cls=LazyGroup,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_global_options)
    group = typer.main.get_command(app)
    assert isinstance(group, LazyGroup)
    group.register(COMMANDS)
    return group


def main() -> None:
    """Runs the command line of this process and ends the process with the exit code."""
    secure_standard_streams()
    invocation = Invocation()
    try:
        try:
            command_line().main(prog_name="streamer", obj=invocation)
        finally:
            sys.stdout.flush()  # nothing is done that was not printed
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:
        sys.exit(report(error, debug=invocation.debug))
