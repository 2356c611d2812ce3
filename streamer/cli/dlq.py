"""`streamer dlq`: what could not be used and why, and putting it back once the cause is mended."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say, visible

if TYPE_CHECKING:
    from streamer.kafka.dead_letters import DeadLetter, Filter
    from streamer.settings import Settings

app = new_app()

Place = Annotated[list[str] | None, typer.Argument(metavar="[PARTITION/OFFSET]...", help="As ls lists them.")]
Stage = Annotated[
    str | None, typer.Option("--stage", metavar="STAGE", help="Only of this stage: decode, validate, score.")
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="REASON", help="Only for this reason; missing_field* for all such."),
]
From = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Only from this time on.")]
To = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Only before this time.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback(no_args_is_help=True)
def dlq() -> None:
    """List, show and replay dead letters."""


@app.command()
def ls(
    ctx: typer.Context,
    stage: Stage = None,
    reason: Reason = None,
    start: From = None,
    end: To = None,
    limit: Annotated[int, typer.Option("--limit", min=0, metavar="N", help="List the last N.")] = 20,
    json: Json = False,
) -> None:
    """Count dead letters by stage and reason, and list the last ones."""
    settings = ctx.obj.settings()
    letters = _read(settings, _filter(stage, reason, start, end))
    listed = letters[len(letters) - limit :] if limit < len(letters) else letters
    if json:
        counts = [{"stage": s, "reason": r, **count} for (s, r), count in _counted(letters).items()]
        rows = [_described(letter) for letter in listed]
        print_json({"topic": settings.topics.dlq, "total": len(letters), "counts": counts, "letters": rows})
        return
    for (its_stage, its_reason), count in sorted(_counted(letters).items(), key=lambda i: -i[1]["count"]):
        what = f"{visible(its_stage)}: {visible(its_reason)}"
        print(f"{count['count']:>9,}  {what}  ({_span(count)}; {count['replayed']:,} replayed)")
    for letter in listed:
        print(_line(letter))
    say(f"{len(letters):,} dead letters in {settings.topics.dlq}")


@app.command()
def show(
    ctx: typer.Context,
    place: Place = None,
    stage: Stage = None,
    reason: Reason = None,
    start: From = None,
    end: To = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most the last N.")] = 20,
    raw: Annotated[
        bool, typer.Option("--raw", help="Also the key, headers and bytes as they came, unscrubbed.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show dead letters with a scrubbed preview. Exit code 1 if there is none."""
    letters = _read(ctx.obj.settings(), _filter(stage, reason, start, end, place))[-limit:]
    for letter in letters:
        item = _described(letter) | {"preview": _preview(letter)} | (_as_it_came(letter) if raw else {})
        if json:
            print_json(item)
        else:
            print(_line(letter))
            for name, value in item.items():
                if name in ("preview", "key", "headers", "payload", "payload_base64"):
                    print(f"    {name}: {visible(str(value))}")
    if not letters:
        say("no such dead letter")
        raise typer.Exit(1)


@app.command()
def replay(
    ctx: typer.Context,
    place: Place = None,
    stage: Stage = None,
    reason: Reason = None,
    start: From = None,
    end: To = None,
    every: Annotated[bool, typer.Option("--all", help="All of them, where nothing else is given.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also what was replayed before, or failed after a replay.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be replayed.")] = False,
    json: Json = False,
) -> None:
    """Put the original bytes and keys back on the clicks topic, in the partitions they came from.

    The clicks go through the worker once more, with the arrival of now: what is older than the watermark
    by then is late. Sessions that could not be scored are left out: their clicks are not lost. Exit code 1 if
    a place that was named is left out.
    """
    from streamer.errors import UsageError

    chosen = _filter(stage, reason, start, end, place)
    if not (every or stage or reason or start or end or place):
        raise UsageError("say which dead letters: places, --reason, --stage, --from, --to, or --all")
    replayed, left_out = asyncio.run(_replay(ctx.obj.settings(), chosen, again, dry_run))
    if place and replayed + left_out.total() < len(chosen.places):
        left_out["no such dead letter"] = len(chosen.places) - replayed - left_out.total()
    if json:
        print_json({"replayed": replayed, "dry_run": dry_run, "left_out": dict(left_out)})
    else:
        for why, count in left_out.items():
            say(f"{count:,} left out: {why}")
        say(f"{replayed:,} dead letters {'would be' if dry_run else 'were'} replayed")
    if place and left_out:
        raise typer.Exit(1)


async def _replay(settings: Settings, chosen: Filter, again: bool, dry_run: bool) -> tuple[int, Counter[str]]:
    from streamer.kafka.dead_letters import (
        clicks_partitions,
        read_dead_letters,
        replay,
        why_not,
    )
    from streamer.kafka.erase import read_erasures

    partitions, erased = await clicks_partitions(settings), await read_erasures(settings)
    left_out: Counter[str] = Counter()

    async def choose() -> list[DeadLetter]:
        letters = []
        for letter in await read_dead_letters(settings, chosen):
            why = why_not(letter, settings, partitions, again, erased)
            if why is None:
                letters.append(letter)
            else:
                left_out[why] += 1
        return letters

    return (len(await choose()) if dry_run else await replay(settings, choose)), left_out


def _read(settings: Settings, wanted: Filter) -> list[DeadLetter]:
    from streamer.kafka.dead_letters import read_dead_letters

    return asyncio.run(read_dead_letters(settings, wanted))


def _filter(
    stage: str | None,
    reason: str | None,
    start: str | None,
    end: str | None,
    places: list[str] | None = None,
) -> Filter:
    from streamer.kafka.dead_letters import Filter, parse_places
    from streamer.kafka.start import parse_time

    return Filter(
        stage=stage,
        reason=reason,
        start=None if start is None else parse_time(start, "--from"),
        end=None if end is None else parse_time(end, "--to"),
        places=parse_places(places or ()),
    )


def _counted(letters: list[DeadLetter]) -> dict[tuple[str, str], dict[str, int]]:
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for letter in letters:
        count = counts.setdefault(
            (letter.stage, letter.reason), {"count": 0, "first": letter.timestamp, "last": 0, "replayed": 0}
        )
        count["count"] += 1
        count["last"] = letter.timestamp
        count["replayed"] += letter.replayed
    return counts


def _described(letter: DeadLetter) -> dict[str, Any]:
    topic, partition, offset = letter.source or (None, None, None)
    return {
        "place": letter.place,
        "timestamp": letter.timestamp,
        "stage": letter.stage,
        "reason": letter.reason,
        "source": {"topic": topic, "partition": partition, "offset": offset},
        "bytes": None if letter.value is None else len(letter.value),
        "attempts": letter.attempts,
        "replayed": letter.replayed,
    }


def _preview(letter: DeadLetter) -> str:
    from streamer.pipeline.preview import preview

    return preview(letter.value)


def _as_it_came(letter: DeadLetter) -> dict[str, Any]:
    from streamer.cli.rendering import as_payload

    return {
        "key": None if letter.key is None else letter.key.decode(errors="replace"),
        "headers": {name: (value or b"").decode(errors="replace") for name, value in letter.headers},
        **as_payload(letter.value),
    }


def _line(letter: DeadLetter) -> str:
    from streamer.kafka.start import as_time

    size = "null" if letter.value is None else f"{len(letter.value):,} bytes"
    summary = (
        f"{letter.place:>12}  {as_time(letter.timestamp)}  {visible(letter.stage)}: {visible(letter.reason)}"
    )
    return f"{summary}  {size}{'  replayed' if letter.replayed else ''}"


def _span(count: dict[str, int]) -> str:
    from streamer.kafka.start import as_time

    return f"{as_time(count['first'])} to {as_time(count['last'])}"
