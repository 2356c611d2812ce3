"""`streamer metrics`: Prometheus rules and a Grafana dashboard, made from the catalogue of metrics."""

from __future__ import annotations

from typing import Annotated

import typer

from streamer.cli.lazy import new_app

app = new_app()


@app.callback()
def metrics() -> None:
    """Print rules and a dashboard for the metrics of workers."""


@app.command()
def rules(
    runbook: Annotated[
        str | None,
        typer.Option("--runbook", metavar="URL", help="Where your copy of docs/operations.md is, for links."),
    ] = None,
) -> None:
    """Print Prometheus alerting rules as YAML."""
    from streamer.operations.alerts import RUNBOOK, rules_yaml

    typer.echo(rules_yaml(runbook or RUNBOOK), nl=False)


@app.command()
def dashboard() -> None:
    """Print a Grafana dashboard as JSON."""
    from streamer.operations.dashboard import dashboard_json

    typer.echo(dashboard_json(), nl=False)
