"""`streamer model card`: what a reviewer reads of a bundle, made from the files that were measured of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamer.cli.local_paths import local_path
from streamer.cli.output import print_json, say
from streamer.errors import UsageError

REPORT = Path("docs/results/report.json")


def card(
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Default: the one shipped.")] = None,
    out: Annotated[Path, local_path("--out", "DIR", "For model-card.html, .md and .json.")] = Path(),
    evaluation: Annotated[
        Path | None,
        typer.Option(
            "--evaluation",
            metavar="FILE",
            help=f"report.json of `model evaluate`; default: {REPORT}, if it is there.",
        ),
    ] = None,
    drift: Annotated[
        Path | None, typer.Option("--drift", metavar="FILE", help="What `model drift --json` printed.")
    ] = None,
    erasure: Annotated[
        Path | None, typer.Option("--erasure", metavar="FILE", help="What `erase --verify --json` printed.")
    ] = None,
    about: Annotated[
        Path | None,
        typer.Option(
            "--about", metavar="FILE", help="TOML: owner, uses, consent and limits that you declare."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the paths as one JSON object.")] = False,
) -> None:
    """Make the model and data card of a bundle: HTML, Markdown and JSON, each claim with its evidence."""
    import models
    from models.bundle import default_bundle, load_bundle
    from models.card import build, rendering
    from models.card.claims import DRIFT, ERASURE, EVALUATION, STATEMENTS
    from models.card.evidence import EvidenceError
    from streamer.output_file import output_file

    bundle = load_bundle(folder or default_bundle())
    if evaluation is None and REPORT.is_file():
        evaluation = REPORT
    optional = {EVALUATION: evaluation, DRIFT: drift, ERASURE: erasure}
    given = {STATEMENTS: about or build.statements_file()}
    given |= {name: path for name, path in optional.items() if path is not None}
    roots = [Path.cwd(), Path(models.__file__).parents[1]]
    try:
        made = build.card(bundle, build.gathered(bundle, given, roots))
    except EvidenceError as error:
        raise UsageError(str(error)) from None
    contents = {
        "html": rendering.as_html(made).encode(),
        "md": rendering.as_markdown(made).encode(),
        "json": rendering.as_json(made),
    }
    written = {kind: out / f"model-card.{kind}" for kind in contents}
    for kind, path in written.items():
        with output_file(path) as file:
            file.write(contents[kind])
    if json:
        print_json({"model_version": made.model_version, **{k: str(p) for k, p in written.items()}})
        return
    missing = [each.text for section in made.sections for each in section.claims if not each.measured]
    say(f"card of {made.model_version} written to {', '.join(map(str, written.values()))}")
    if missing:
        say(f"not measured: {len(missing)} claims; most need an evaluation, or slices of this bundle")
