"""`streamer init`: a settings file to begin with, and for clicks of another shape what reads them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say
from streamer.errors import UsageError

if TYPE_CHECKING:
    from streamer.cli.invocation import Invocation

app = new_app()
_SETTINGS, _MAPPING = "streamer.toml", "mapping.toml"
_MOST_RECORDS = 1000


class _Found(NamedTuple):
    """What reads a sample."""

    source: str
    """As `clicks.source` has it."""
    readable: int
    records: int
    mapping: str | None
    """A draft, where no profile reads half of the records."""


@app.command()
def init(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where the files go.")] = Path(),
    sample: Annotated[
        Path | None,
        typer.Option("--sample", metavar="FILE", help="Some of your clicks: lines, or rows of parquet."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a streamer.toml with every setting, explained.

    Those given by --set are set, the others are commented out. With --sample, clicks.source is the profile
    that reads these records; where none does, a mapping file is drafted for you to review.
    """
    from streamer.output_file import output_file, require_local

    require_local(folder, "init")
    found = None if sample is None else _what_reads(sample, folder)
    files = _files(folder, _given(ctx.obj), found)
    for file in files:
        if file.exists():
            raise UsageError(f"init: {file} exists; expected a folder without it")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        with output_file(file) as out:
            out.write(text.encode())
    if json:
        print_json({"files": [str(file) for file in files], "source": found and found.source})
    else:
        _say_what_next(folder, sample, found)


def _given(invocation: Invocation) -> dict[str, object]:
    """The settings of --set, checked, by `section.key`. Raises UsageError."""
    settings = invocation.settings().model_dump(mode="json")
    values: dict[str, object] = {}
    for key, text in invocation.parsed_overrides().items():
        value: object = settings
        for part in key.split("."):
            value = value.get(part, text) if isinstance(value, dict) else text
        values[key] = value
    return values


def _what_reads(sample: Path, folder: Path) -> _Found:
    from streamer.settings import ClickSettings
    from streamer.sources.files import records_of
    from streamer.sources.fit import best_source
    from streamer.sources.suggest import suggest

    records = list(islice(records_of(sample, None), _MOST_RECORDS))
    source, readable = best_source(ClickSettings(), records)
    if 2 * readable > len(records):
        return _Found(source, readable, len(records), None)
    return _Found(str(folder / _MAPPING), readable, len(records), suggest(records))


def _files(folder: Path, values: dict[str, object], found: _Found | None) -> dict[Path, str]:
    """What to write where."""
    from streamer.settings_file import settings_file

    files: dict[Path, str] = {}
    if found is not None:
        values["clicks.source"] = found.source
        if found.mapping is not None:
            files[Path(found.source)] = found.mapping
    try:
        files[folder / _SETTINGS] = settings_file(values)
    except KeyError as error:
        key = error.args[0]
        raise UsageError(f"init: {key} is not written to a file; a secret is named as {key}_file") from None
    return files


def _say_what_next(folder: Path, sample: Path | None, found: _Found | None) -> None:
    settings = folder / _SETTINGS
    option = "" if folder == Path() else f" --config {settings}"
    say(f"wrote {settings}")
    if found is not None and found.mapping is None:
        say(f"{found.source} reads {found.readable:,} of {found.records:,} records of {sample}")
    elif found is not None:
        say(f"wrote {found.source}, a draft: no profile reads half of the {found.records:,} records")
        say(f"next: edit it, then streamer map --check {sample} --source {found.source}")
    say(f"next: streamer{option} topics create, streamer{option} doctor, streamer{option} worker")
