"""`streamer sink`: copies of the latest records where others look them up."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.lazy import new_app
from streamer.cli.local_paths import local_path
from streamer.cli.output import print_json, say

if TYPE_CHECKING:
    from streamer.sink.lake_verify import Found

app = new_app()

Drain = Annotated[
    bool, typer.Option("--drain", help="End when all is copied that is in the topics at the start.")
]

Verify = Annotated[
    bool,
    typer.Option(
        "--verify", help="Copy nothing; check that the files are whole and have nothing of the erased."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print what --verify found as one JSON object.")]


@app.callback(no_args_is_help=True)
def sink() -> None:
    """Copy visitors and customers to where they are looked up; what was erased goes there too."""


@app.command()
def redis(
    ctx: typer.Context,
    drain: Drain = False,
    partitions: Annotated[
        str,
        typer.Option("--partitions", metavar="all|N-N,...", help="What to copy: a share of the topics."),
    ] = "all",
) -> None:
    """Keep the latest record of each visitor and customer in Redis or Valkey, until stopped.

    Settings are in the section [sink.redis].
    """
    from streamer.serving.share import parse_partitions
    from streamer.sink.run import run_redis_sink

    share = parse_partitions(partitions)
    asyncio.run(run_redis_sink(ctx.obj.settings(), share, drain))


@app.command()
def parquet(
    ctx: typer.Context,
    folder: Annotated[Path | None, local_path("--folder", "DIR", "Where the files are.")] = None,
    drain: Drain = False,
    verify: Verify = False,
    json: Json = False,
) -> None:
    """Keep every record of visitors and customers in Parquet files by day, until stopped.

    Settings are in the section [sink.parquet].
    """
    from streamer.errors import UsageError
    from streamer.sink.run import run_parquet_sink, verify_lake

    settings = ctx.obj.settings(sink__parquet__folder=folder)
    if settings.sink.parquet.folder is None:
        raise UsageError("streamer sink parquet: no folder; give --folder or sink.parquet.folder")
    if not verify:
        asyncio.run(run_parquet_sink(settings, drain))
        return
    _report_found(asyncio.run(verify_lake(settings)), str(settings.sink.parquet.folder), "parquet", json)


@app.command()
def iceberg(
    ctx: typer.Context,
    folder: Annotated[
        Path | None, local_path("--folder", "DIR", "Where the files are, and their catalogue.")
    ] = None,
    drain: Drain = False,
    verify: Verify = False,
    json: Json = False,
) -> None:
    """Keep every record of visitors and customers in two tables of Iceberg, until stopped.

    Settings are in the section [sink.iceberg].
    """
    from streamer.errors import UsageError
    from streamer.sink.run import run_iceberg_sink, verify_iceberg

    settings = ctx.obj.settings(sink__iceberg__folder=folder)
    place = settings.sink.iceberg.folder or settings.sink.iceberg.catalog
    if place is None:
        raise UsageError(
            "streamer sink iceberg: no folder and no catalogue; give --folder, sink.iceberg.folder or "
            "sink.iceberg.catalog"
        )
    if not verify:
        asyncio.run(run_iceberg_sink(settings, drain))
        return
    _report_found(asyncio.run(verify_iceberg(settings)), str(place), "iceberg", json)


def _report_found(found: Found, place: str, kind: str, json: bool) -> None:
    from streamer.sink.store import StoreError

    if json:
        print_json(found._asdict())
    else:
        say(
            f"{found.files} files, {found.rows} rows; {found.erased} erased keys, {found.left} rows of theirs"
        )
    if found.left:
        raise StoreError(
            f"{place}: {found.left} rows of the erased are left; the sink takes them out within "
            f"sink.{kind}.erase_every_s, or at once with --drain"
        )
