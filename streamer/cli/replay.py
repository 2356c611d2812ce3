"""`streamer replay`: a time range of the log, or a file, once more through the worker's own pipeline."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from streamer.cli.click_source import ClickShape
from streamer.cli.lazy import new_app
from streamer.cli.output import say
from streamer.errors import UsageError
from streamer.line_file import at_rest
from streamer.output_file import require_local

if TYPE_CHECKING:
    from streamer.models.evaluation.task_rows import Outcomes
    from streamer.replay.options import ReplayOptions
    from streamer.replay.run import ReplaySummary
    from streamer.settings import Settings

app = new_app()

Start = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="Sessions closed at this arrival time or later."),
]
Show = Callable[[int, int], None]
_LINE_EVERY_S = 10.0


@app.command()
def replay(
    ctx: typer.Context,
    start: Start = None,
    end: Annotated[
        str | None,
        typer.Option("--to", metavar="TIME", help="Sessions closed before; none: all."),
    ] = None,
    source: Annotated[
        str, typer.Option("--source", metavar="topic|FILE", help="The clicks topic, JSONL(.gz) or parquet.")
    ] = "topic",
    clicks: ClickShape = None,
    bundle: Annotated[
        list[Path] | None, typer.Option("--bundle", metavar="DIR", help="Score with it; repeatable.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE.parquet|topic:NAME|-", help="Where sessions go.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="Compare the bundles; JSON beside the page."),
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option("--outcomes", metavar="FILE", help="With --report: what visitors did, as JSON lines."),
    ] = None,
    speed: Annotated[
        float, typer.Option("--speed", min=0, metavar="0|1|N", help="0: at once; N: N times as it arrived.")
    ] = 0,
    processes: Annotated[
        int, typer.Option("--processes", min=1, metavar="N", help="Processes on this machine.")
    ] = 1,
    group: Annotated[
        str | None,
        typer.Option("--group", metavar="NAME", help="Share the work with whoever runs the same command."),
    ] = None,
    users: Annotated[
        bool, typer.Option("--users/--no-users", help="Records of customers over time, too.")
    ] = True,
    links: Annotated[
        Path | None,
        typer.Option("--links", metavar="FILE", help="With --source FILE: identity links, as JSON lines."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print counters and digests as JSON.")] = False,
) -> None:
    """Run a bounded time range of the log again, without touching what is live.

    TIME is arrival time and selects sessions by closed_at, half-open. Stopped half-way, the same command
    goes on where it was.
    """
    from streamer.replay.options import ReplayOptions, bundles_of, time_range_of

    time_range = time_range_of(start, end, int(time.time() * 1000))
    bundles = bundle or []
    if report is not None:
        out = _rows_for(report, out, bundles)
    elif outcomes is not None:
        raise UsageError("--outcomes: expected with --report FILE.html")
    known = _read_outcomes(outcomes) if outcomes is not None else None
    settings = ctx.obj.settings(clicks__source=clicks)
    users = users and settings.identity.enabled
    options = ReplayOptions(time_range, source, tuple(bundles), out, speed, processes, group, users, links)
    options = replace(options, bundles=bundles_of(bundles, settings))
    with progress() as show:
        done = run_replay(settings, options, show)
    summary = done.as_dict()
    if report is not None and done.is_to_report:
        write_backtest(report, str(out), summary, known)
    text = orjson.dumps(summary).decode() if json else _text_of(summary)
    if out == "-":
        say(text)  # standard output has the sessions
    else:
        print(text, flush=True)


def run_replay(settings: Settings, options: ReplayOptions, show: Show) -> ReplaySummary:
    from streamer.worker.memory import settle_memory

    settle_memory()
    if options.group is None:
        from streamer.replay.run import replay as run
    else:
        from streamer.replay.group import replay_in_group as run
    with at_rest(Path(options.source)) as source, ExitStack() as stack:
        links = stack.enter_context(at_rest(options.links)) if options.links else None
        return run(settings, replace(options, source=str(source), links=links), show)


def _rows_for(report: Path, out: str | None, bundles: list[Path]) -> str:
    """The file that a report is made of; beside it unless another was asked for."""
    html_file(report)
    if len(bundles) < 2:
        raise UsageError("--report: expected at least two --bundle to compare")
    if out is not None and not out.endswith(".parquet"):
        raise UsageError(f"--report with --out {out}: expected --out FILE.parquet, of which it is made")
    return out or str(report.with_suffix(".parquet"))


def html_file(report: Path) -> None:
    """Raises UsageError if `--report` is none."""
    require_local(report, "--report")
    if report.suffix != ".html":
        raise UsageError(f"--report {report}: expected FILE.html")


def _read_outcomes(path: Path) -> Outcomes:
    """Before the replay, which may take hours, so that a broken line is reported at once."""
    from streamer.backtest.tasks import read_outcomes

    return read_outcomes(path)


def write_backtest(
    report: Path, rows: str, summary: dict[str, Any], outcomes: Outcomes | None
) -> dict[str, Any]:
    """The page, and the document beside it, which is returned."""
    from streamer.backtest.page import page
    from streamer.backtest.report import backtest, write_report

    document = backtest(Path(rows), summary, outcomes)
    beside = write_report(document, report, page(document))
    say(f"report written to {report} and {beside}")
    return document


@contextmanager
def progress() -> Iterator[Show]:
    """A bar with rate and time left, where somebody looks at it; else a line now and then."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.completed:,} of {task.total:,} clicks"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=0, rate="")

        def show(done: int, total: int) -> None:
            rate = progress.tasks[0].speed
            text = f"{rate:,.0f} a second" if rate else ""
            progress.update(task, completed=done, total=total, rate=text)

        yield show


def _lines() -> Show:
    started = last = time.monotonic()
    before: int | None = None

    def show(done: int, total: int) -> None:
        nonlocal last, before
        before = done if before is None else before
        now = time.monotonic()
        if now - last >= _LINE_EVERY_S and done > before:
            last = now
            rate = (done - before) / (now - started)
            left_s = (total - done) / rate
            say(f"{done:,} of {total:,} clicks, {rate:,.0f} a second, about {left_s:,.0f} s left")

    return show


def _text_of(summary: dict[str, Any]) -> str:
    clicks, sessions = summary["clicks"], summary["sessions"]
    parts = " + ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in clicks.items() if name != "read" and count
    ).replace("+ -", "- ")
    lines = [
        f"{clicks['read']:,} clicks = {parts or 0}",
        f"{sessions['selected']:,} sessions ({_counts(summary['closed_by'])})",
    ]
    if sessions["undetermined"]:
        lines.append(
            f"{sessions['undetermined']:,} more are undetermined: they may have begun before the first click "
            "that was read. An earlier --from reads more"
        )
    if summary["dead_letters"]:
        lines.append(f"dead letters: {_counts(summary['dead_letters'])}")
    for bundle in summary["bundles"]:
        for kind, digests in bundle["digests"].items():
            lines.append(
                f"{bundle['model_version']} {kind}: record {digests['record']} content {digests['content']}"
            )
    lines += [_users_line(bundle) for bundle in summary["bundles"] if bundle["users"]]
    rate = f", {summary['clicks_per_s']:,} clicks a second" if summary["clicks_per_s"] else ""
    target = f" -> {summary['out']}" if summary["out"] else ""
    lines.append(f"{summary['seconds']:.1f} s{rate}{target}")
    return "\n".join(lines)


def _users_line(bundle: dict[str, Any]) -> str:
    users = bundle["users"]
    sessions = users["sessions"]
    parts = " + ".join(f"{count:,} {name}" for name, count in sessions.items() if count)
    return (
        f"{bundle['model_version']} users: {users['users']:,}, {users['changes']:,} changes, digest "
        f"{users['digest']}; {sum(sessions.values()):,} sessions = {parts or 0}"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
