"""`streamer verify`: whether the log, run again, gives what live has published."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json
from streamer.cli.replay import Start, progress

app = new_app()


@app.command()
def verify(
    ctx: typer.Context,
    start: Start = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Sessions closed before; none: all that live has read."),
    ] = None,
    bundle: Annotated[
        list[Path] | None,
        typer.Option("--bundle", metavar="DIR", help="A bundle that live has used; repeatable."),
    ] = None,
    served: Annotated[
        bool, typer.Option("--served", help="Compare what `streamer serve` has answered, too.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Replay what live has read and compare digests of all records, per partition and overall.

    Exit code 0 only if all is equal; 1 if records differ, or if something can't be compared.
    """
    from streamer.replay.options import bundles_of, time_range_of
    from streamer.replay.verify import verify as run
    from streamer.worker.memory import settle_memory

    settle_memory()
    time_range = time_range_of(start, end, int(time.time() * 1000))
    settings = ctx.obj.settings()
    bundles = bundles_of(bundle or [], settings)
    with progress() as show:
        report = asyncio.run(run(settings, time_range, bundles, show, with_served=served)).as_dict()
    if json:
        print_json(report)
    else:
        print(_text_of(report), flush=True)
    if report["result"] != "equal":
        raise typer.Exit(1)


def _text_of(report: dict[str, Any]) -> str:
    lines = []
    for each in report["partitions"]:
        lines.append(f"partition {each['partition']}: {each['state']}, {each['sessions']:,} sessions")
        lines += [f"  {count:,} sessions left out: {why}" for why, count in each["undetermined"].items()]
        lines += [
            f"  {count:,} {how}, such as {', '.join(each['session_ids'][how])}"
            for how, count in each["differences"].items()
        ]
        lines += [f"  {text}" for text in each["because"] + each["notes"]]
    if report["users"] is not None:
        lines += _users_lines(report["users"])
    if report["served"] is not None:
        lines += _served_lines(report["served"])
    for kind in ("embeddings", "intents"):
        for side in ("live", "replay"):
            found = report[side][kind]
            lines.append(f"{kind:<11}{side:<7} record {found['record']} content {found['content']}")
    left_out = f" compared, {report['left_out']:,} left out" if report["left_out"] else ""
    lines.append(f"{report['result']}: {report['sessions']:,} sessions{left_out}")
    return "\n".join(lines)


def _users_lines(users: dict[str, Any]) -> list[str]:
    return [
        f"customers: {users['state']}, {users['users']:,} compared",
        *(f"  {count:,} customers left out: {why}" for why, count in users["undetermined"].items()),
        *(
            f"  {count:,} {how}, such as {', '.join(users['user_ids'][how])}"
            for how, count in users["differences"].items()
        ),
    ]


def _served_lines(served: dict[str, Any]) -> list[str]:
    lines = [f"served: {served['state']}"]
    for view, found in served["views"].items():
        counts = ", ".join(f"{count:,} {how}" for how, count in found["look_ups"].items())
        lines.append(f"  {view}: {counts or 'no look-ups'}")
    return lines
