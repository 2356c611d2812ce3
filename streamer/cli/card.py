"""`streamer model card`: what a reviewer reads of a bundle, made from the files that were measured of it."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamer.cli.local_paths import out_path
from streamer.cli.output import print_json, say
from streamer.errors import UsageError

if TYPE_CHECKING:
    from streamer.models.bundle import Bundle
    from streamer.models.card.document import Card
    from streamer.settings import Settings

REPORT = Path("docs/results/report.json")
_SEED = 0


def card(
    ctx: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="Default: the one shipped.")] = None,
    out: Annotated[Path, out_path("--out", "DIR", "For model-card.html, .md and .json.")] = Path(),
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
    sessions: Annotated[
        Path | None,
        typer.Option(
            "--sessions",
            metavar="FILE",
            help="Your own, to measure slices on: a replay's parquet, or clicks. Written to slices.json.",
        ),
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option("--outcomes", metavar="FILE", help="What their visitors did, as `replay` takes it."),
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
    from streamer.models.bundle import default_bundle, load_bundle
    from streamer.models.card import build
    from streamer.models.card.claims import DRIFT, ERASURE, EVALUATION, SLICES, STATEMENTS

    if outcomes is not None and sessions is None:
        raise UsageError("--outcomes: expected with --sessions FILE")
    bundle = load_bundle(folder or default_bundle())
    measured = None if sessions is None else out / "slices.json"
    if sessions is not None and measured is not None:
        _measure_slices(bundle, sessions, outcomes, measured, ctx.obj.settings())
    if evaluation is None and REPORT.is_file():
        evaluation = REPORT
    optional = {EVALUATION: evaluation, DRIFT: drift, ERASURE: erasure, SLICES: measured}
    given = {STATEMENTS: about or build.statements_file()}
    given |= {name: path for name, path in optional.items() if path is not None}
    made = _made(bundle, given)
    written = _written(made, out)
    if json:
        print_json({"model_version": made.model_version, **{k: str(p) for k, p in written.items()}})
        return
    missing = [each.text for section in made.sections for each in section.claims if not each.measured]
    say(f"card of {made.model_version} written to {', '.join(map(str, written.values()))}")
    if missing:
        say(f"not measured: {len(missing)} claims; most need an evaluation, or slices of this bundle")


def _made(bundle: Bundle, given: dict[str, Path]) -> Card:
    from streamer import models
    from streamer.models.card import build
    from streamer.models.card.evidence import EvidenceError

    roots = [Path(models.__file__).resolve().parents[1], Path.cwd()]
    try:
        return build.card(bundle, build.gathered(bundle, given, roots))
    except EvidenceError as error:
        raise UsageError(str(error)) from None


def _written(made: Card, out: Path) -> dict[str, Path]:
    """Where each form of it is."""
    from streamer.models.card import rendering
    from streamer.output_file import output_file

    contents = {
        "html": rendering.as_html(made).encode(),
        "md": rendering.as_markdown(made).encode(),
        "json": rendering.as_json(made),
    }
    written = {kind: out / f"model-card.{kind}" for kind in contents}
    for kind, path in written.items():
        with output_file(path) as file:
            file.write(contents[kind])
    return written


def _measure_slices(
    bundle: Bundle, sessions: Path, outcomes: Path | None, out: Path, settings: Settings
) -> None:
    import numpy as np

    from streamer.backtest.tasks import read_outcomes
    from streamer.cli.drift import sessions_of_people
    from streamer.models.evaluation.protocol import SplitError
    from streamer.models.evaluation.result_store import rounded
    from streamer.models.evaluation.slice_metrics import UnscoredError
    from streamer.models.evaluation.steps_slices import own_slices
    from streamer.output_file import output_file

    people = sessions_of_people(sessions, settings)
    known = None if outcomes is None else read_outcomes(outcomes)
    try:
        found = own_slices(bundle, people, known, np.random.default_rng(_SEED))
    except (SplitError, UnscoredError) as error:
        raise UsageError(f"{sessions}: {error}") from None
    if known is not None and len(found["metrics"]) == 1:
        say(f"{outcomes}: too few outcomes of these visitors to measure what vectors are worth by slice")
    with output_file(out) as file:
        file.write((dumps(rounded(found), indent=1) + "\n").encode())
