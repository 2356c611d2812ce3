"""`streamer kafka`: a real Apache Kafka on this machine, without Docker and without a Java of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say

if TYPE_CHECKING:
    from streamer.kafka.embedded import EmbeddedKafka

app = new_app()

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Where its data lies [default: the user's state directory]."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback(no_args_is_help=True)
def kafka() -> None:
    """Start and stop a real Kafka on this machine."""


@app.command()
def start(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0 takes any that is free.")] = 9092,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Start it, or find it running; returns when it answers."""
    broker = _broker(data_dir, port)
    already = broker.is_running()
    broker.start()
    if json:
        print_json(_state(broker))
    else:
        say(
            f"Kafka {'already runs' if already else 'runs'} at {broker.bootstrap} (data in {broker.data_dir})"
        )


@app.command()
def stop(data_dir: DataDir = None) -> None:
    """Stop it; its data stays."""
    stopped = _broker(data_dir).stop()
    say("Kafka stopped" if stopped else "Kafka was not running")


@app.command()
def status(data_dir: DataDir = None, json: Json = False) -> None:
    """Say whether it runs and where; exit code 1 if it doesn't."""
    broker = _broker(data_dir)
    state = _state(broker)
    if json:
        print_json(state)
    elif state["running"]:
        say(f"Kafka runs at {state['bootstrap_servers']} (process {state['pid']}, data in {broker.data_dir})")
    else:
        say(f"Kafka does not run (data in {broker.data_dir})")
    if not state["running"]:
        raise typer.Exit(1)


def _broker(data_dir: Path | None, port: int = 0) -> EmbeddedKafka:
    from streamer.kafka.embedded import EmbeddedKafka
    from streamer.kafka.places import broker_data

    return EmbeddedKafka(data_dir or broker_data(), port, say=say)


def _state(broker: EmbeddedKafka) -> dict[str, object]:
    if not broker.is_running():
        return {"running": False, "data_dir": str(broker.data_dir)}
    return {
        "running": True,
        "bootstrap_servers": broker.bootstrap,
        "pid": broker.pid,
        "data_dir": str(broker.data_dir),
    }
