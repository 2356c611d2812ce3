"""`streamer kafka`: a real Apache Kafka on this machine, without Docker and without a Java of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.lazy import new_app
from streamer.cli.local_paths import local_path
from streamer.cli.output import print_json, say

if TYPE_CHECKING:
    from streamer.kafka.cluster import EmbeddedCluster
    from streamer.kafka.embedded import EmbeddedKafka

app = new_app()

DataDir = Annotated[
    Path | None, local_path("--data-dir", "DIR", "Where its data lies [default: the user's state directory].")
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
    """Say which brokers run and answer, and where; exit code 1 unless all do."""
    state = _state(_cluster(data_dir))
    if json:
        print_json(state)
    elif "brokers" in state:
        for number, broker in enumerate(state["brokers"], 1):
            say(_line(f"broker {number}", broker))
    else:
        say(_line("Kafka", state))
    if not state["running"]:
        raise typer.Exit(1)


def _line(name: str, state: dict[str, Any]) -> str:
    where = f"data in {state['data_dir']}"
    if "pid" not in state:
        return f"{name} does not run ({where})"
    process = f"at {state['bootstrap_servers']} (process {state['pid']}, {where})"
    return (
        f"{name} runs {process}"
        if state["running"]
        else f"{name} does not answer {process}: starting, or frozen"
    )


def _cluster(data_dir: Path | None, brokers: int | None = None, port: int = 0) -> EmbeddedCluster:
    from streamer.kafka.cluster import EmbeddedCluster
    from streamer.kafka.places import broker_data

    return EmbeddedCluster(data_dir or broker_data(), brokers, port, say=say)


def _state(cluster: EmbeddedCluster) -> dict[str, Any]:
    """Of one broker its own; of several the cluster's, and each broker's under `brokers`."""
    states = [_broker_state(broker) for broker in cluster.brokers]
    if len(states) == 1:
        return states[0]
    is_running = all(state["running"] for state in states)
    where = {"bootstrap_servers": cluster.bootstrap} if is_running else {}
    return {
        "running": is_running,
        **where,
        "data_dir": str(cluster.data_dir),
        "brokers": states,
    }


def _broker_state(broker: EmbeddedKafka) -> dict[str, object]:
    """Running is a broker that answers: a frozen one has a process too."""
    from streamer.kafka.reach import answers

    if not broker.is_running():
        return {"running": False, "data_dir": str(broker.data_dir)}
    return {
        "running": answers(broker.internal),
        "bootstrap_servers": broker.bootstrap,
        "pid": broker.pid,
        "data_dir": str(broker.data_dir),
    }
