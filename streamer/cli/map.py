"""`streamer map`: what a profile or mapping file makes of some records, or a draft of a mapping from them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.click_source import ClickSource
from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, visible
from streamer.errors import UsageError

if TYPE_CHECKING:
    from streamer.settings import ClickSettings
    from streamer.sources.check import CheckReport, FieldReport

app = new_app()
_LONGEST_EXAMPLE = 40


@app.command(name="map")
def map_records(
    ctx: typer.Context,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="FILE", help="Read these records: lines, or rows of parquet."),
    ] = None,
    suggest: Annotated[
        Path | None, typer.Option("--suggest", metavar="FILE", help="Draft a mapping from these records.")
    ] = None,
    source: ClickSource = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what comes from where in records of another shape, or draft a mapping file for them.

    --check exits with 1 if a record would be a dead letter.
    """
    from streamer.sources.files import records_of

    if (check is None) == (suggest is None):
        raise UsageError("map: expected either --check FILE or --suggest FILE")
    if suggest is not None:
        from streamer.sources.suggest import suggest as draft

        text = draft(records_of(suggest, None))
        if json:
            print_json({"mapping": text})
        else:
            typer.echo(text, nl=False)
        return
    assert check is not None
    report = _checked(check, ctx.obj.settings(clicks__source=source).clicks)
    if json:
        print_json({**report._asdict(), "fields": [field._asdict() for field in report.fields]})
    else:
        _print(report)
    if report.refused:
        raise typer.Exit(1)


def _checked(file: Path, clicks: ClickSettings) -> CheckReport:
    from streamer.settings import NATIVE
    from streamer.sources import PROFILES, mapping_of
    from streamer.sources.check import check
    from streamer.sources.files import records_of

    if clicks.source == NATIVE:
        raise UsageError(
            "map --check: our own shape needs no mapping; expected --source with a mapping file or one of "
            f"{', '.join(PROFILES)}"
        )
    records = (record.rstrip(b"\r\n") for record in records_of(file, clicks.source))
    return check(mapping_of(clicks.source, None, clicks.keep), records, clicks.keep)


def _print(report: CheckReport) -> None:
    refused = sum(report.refused.values())
    typer.echo(
        f"{report.mapping}: {report.records:,} records = {report.clicks:,} clicks"
        f" + {report.filtered:,} filtered + {refused:,} dead letters"
    )
    if report.tell_dwell:
        typer.echo(f"  {report.tell_dwell:,} of the filtered tell how long a page was read")
    for reason, count in report.refused.items():
        typer.echo(f"  {count:,} dead letters: {reason}")
    for field in report.fields:
        typer.echo(f"{field.field:<13} {_in_words(field, report.clicks)}")


def _in_words(field: FieldReport, clicks: int) -> str:
    if not field.found:
        return f"missing: {field.costs}"
    sources = ", ".join(f"{path} ({count:,})" for path, count in field.sources.items())
    example = visible(str(field.example))[:_LONGEST_EXAMPLE]
    return f"{field.found:,} of {clicks:,} from {visible(sources)}, such as {example}"
