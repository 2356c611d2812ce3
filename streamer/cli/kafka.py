"""`streamer kafka`: a real Apache Kafka on this machine, without Docker and without a Java of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say

if TYPE_CHECKING:
    from streamer.kafka.cluster import EmbeddedCluster
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
    port: Annotated[
        int,
        typer.Option(
            min=0, max=65535, help="Its port, and the first of several brokers'; 0 takes any that is free."
        ),
    ] = 9092,
    brokers: Annotated[
        int | None,
        typer.Option(min=1, max=9, help="How many brokers [default: as many as before, or 1]."),
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Start it, or find it running; returns when all its brokers answer."""
    cluster = _cluster(data_dir, brokers, port)
    already = cluster.is_running()
    cluster.start()
    if json:
        print_json(_state(cluster))
    else:
        runs = "already runs" if already else "runs"
        say(f"Kafka {runs} at {cluster.bootstrap} (data in {cluster.data_dir})")


@app.command()
def stop(data_dir: DataDir = None) -> None:
    """Stop it; its data stays."""
    stopped = _cluster(data_dir).stop()
    say("Kafka stopped" if stopped else "Kafka was not running")


@app.command()
def status(data_dir: DataDir = None, json: Json = False) -> None:
    """Say which brokers run and where; exit code 1 unless all do."""
    cluster = _cluster(data_dir)
    state = _state(cluster)
    if json:
        print_json(state)
    else:
        for number, broker in enumerate(cluster.brokers, 1):
            say(_line("Kafka" if len(cluster.brokers) == 1 else f"broker {number}", broker))
    if not state["running"]:
        raise typer.Exit(1)


def _line(name: str, broker: EmbeddedKafka) -> str:
    if not broker.is_running():
        return f"{name} does not run (data in {broker.data_dir})"
    return f"{name} runs at {broker.bootstrap} (process {broker.pid}, data in {broker.data_dir})"


def _cluster(data_dir: Path | None, brokers: int | None = None, port: int = 0) -> EmbeddedCluster:
    from streamer.kafka.cluster import EmbeddedCluster
    from streamer.kafka.places import broker_data

    return EmbeddedCluster(data_dir or broker_data(), brokers, port, say=say)


def _state(cluster: EmbeddedCluster) -> dict[str, object]:
    """Of one broker its own; of several the cluster's, and each broker's under `brokers`."""
    states = [_broker_state(broker) for broker in cluster.brokers]
    if len(states) == 1:
        return states[0]
    where = {"bootstrap_servers": cluster.bootstrap} if cluster.is_running() else {}
    return {
        "running": bool(where),
        **where,
        "data_dir": str(cluster.data_dir),
        "brokers": states,
    }


def _broker_state(broker: EmbeddedKafka) -> dict[str, object]:
    if not broker.is_running():
        return {"running": False, "data_dir": str(broker.data_dir)}
    return {
        "running": True,
        "bootstrap_servers": broker.bootstrap,
        "pid": broker.pid,
        "data_dir": str(broker.data_dir),
    }
