"""`streamer model evaluate`: the protocol, step by step, as one report; stored results aren't made again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.local_paths import local_path, out_path
from streamer.cli.output import print_json, say
from streamer.errors import StreamerError, UsageError

if TYPE_CHECKING:
    from streamer.models.evaluation.experiment import Scale
    from streamer.models.evaluation.run import Context
    from streamer.schemas.click import Session
    from streamer.settings import Settings

CLICKS_DATA = "CLICKS_DATA"
RESULTS, CACHE = Path("docs/results"), Path("runs/evaluate")

_QUICK = {
    "visitors": 600,
    "seeds": (11,),
    "epochs": 1,
    "short_epochs": 1,
    "small_sessions": 1_000,
    "reader_visitors": 600,
    "labelled": 800,
    "draws": 200,
    "label_draws": 2,
    "pretraining_visitors": 400,
    "real_epochs": 1,
}


class EvaluationFailedError(StreamerError):
    """A step can't be run; the text says why."""


def evaluate(
    ctx: typer.Context,
    out: Annotated[Path, out_path("--out", "DIR", "Results and report.")] = RESULTS,
    work: Annotated[Path, local_path("--work", "DIR", "Embeddings and draws.")] = CACHE,
    steps: Annotated[
        str | None,
        typer.Option("--steps", metavar="A,B", help="Only these, with their tables printed; default: all."),
    ] = None,
    real: Annotated[
        bool,
        typer.Option("--real", help="Only what an embedding adds on public clickstreams, few labels first."),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help=f"Public clickstreams; default: ${CLICKS_DATA}."),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="DIR",
            help="Whose cost and memberships are measured; default: the shipped one.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", min=1, max=3, help="Of the main table; default: 3.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny: to see that it runs, not what it finds.")
    ] = False,
    into_manifest: Annotated[
        bool, typer.Option("--into-manifest", help="Write the figures into the bundle's manifest.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")] = False,
) -> None:
    """Measure the training recipe against baselines and labels, and write one report (HTML and JSON)."""
    from streamer.models.bundle import default_bundle, load_bundle
    from streamer.models.evaluation.report import figures, write_report
    from streamer.models.evaluation.run import Context
    from streamer.replay.identities import Identities
    from streamer.rules_from_settings import identity_rules, session_rules

    chosen = _chosen(steps, real)
    folder = bundle or default_bundle()
    settings, loaded = ctx.obj.settings(), load_bundle(folder)
    experiment = _experiment(settings, _scale(quick, seeds), out, work)
    identity = Identities(loaded, session_rules(settings).version, identity_rules(settings))
    context = Context(experiment, loaded, identity, _clickstreams(data))
    results = _run(context, chosen)
    if (steps is not None or real) and (missing := [step for step in chosen if step not in results]):
        expected = dict.fromkeys(
            "a --bundle with prototypes"
            if step in ("memberships", "production", "scaling")
            else f"--data or {CLICKS_DATA}, a folder of clickstreams"
            for step in missing
        )
        raise EvaluationFailedError(f"not run: {', '.join(missing)}; expected {' and '.join(expected)}")
    write_report(out, results, experiment.scale)
    found = figures(results)
    if into_manifest:
        _write_figures(folder, found, experiment.scale)
    if json:
        print_json({"report": str(out / "report.html"), "metrics": found})
        return
    if steps is not None or real:
        _print_tables(results, chosen)
    say(f"report written to {out / 'report.html'}")


def _scale(quick: bool, seeds: int | None) -> Scale:
    from streamer.models.evaluation.experiment import Scale

    scale = Scale(**_QUICK) if quick else Scale()  # type: ignore[arg-type]
    return replace(scale, seeds=scale.seeds[:seeds])


def _experiment(settings: Settings, scale: Scale, out: Path, work: Path) -> Any:
    from streamer.models.evaluation.experiment import Experiment
    from streamer.models.evaluation.result_store import ResultStore
    from streamer.replay.file_source import sessions_of_file
    from streamer.rules_from_settings import session_rules

    rules = session_rules(settings)

    def cut(path: Path) -> list[Session]:
        return sessions_of_file(path, rules, settings.clicks).sessions

    return Experiment(ResultStore(out / "steps", work, say), cut, scale)


def _chosen(steps: str | None, real: bool) -> list[str]:
    from streamer.models.evaluation import steps_real
    from streamer.models.evaluation.run import STEPS

    if steps is not None and real:
        raise UsageError("--real and --steps: expected one of them, for --real names steps")
    of_default = list(steps_real.STEPS if real else STEPS)
    chosen = of_default if steps is None else steps.split(",")
    unknown = sorted(set(chosen) - set(STEPS))
    if unknown:
        raise UsageError(f"--steps {','.join(unknown)}: expected some of {', '.join(STEPS)}")
    return chosen


def _clickstreams(given: Path | None) -> Path | None:
    folder = given or (Path(os.environ[CLICKS_DATA]) if os.environ.get(CLICKS_DATA) else None)
    if folder is None:
        say(f"no public clickstreams: neither --data nor {CLICKS_DATA}; their steps are left out")
    return folder


def _run(context: Context, steps: list[str]) -> dict[str, Any]:
    from streamer.models.evaluation.protocol import SplitError
    from streamer.models.evaluation.real.clickstreams import MissingDataError
    from streamer.models.evaluation.run import evaluate as run_steps

    try:
        return run_steps(context, steps)
    except (SplitError, MissingDataError) as error:
        raise EvaluationFailedError(str(error)) from error


def _print_tables(results: dict[str, Any], steps: list[str]) -> None:
    from streamer.models.evaluation.report_tables import TABLES

    for step in [step for step in steps if step in TABLES]:
        for table in TABLES[step](results[step]):
            lines = [table.columns, *table.rows]
            widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
            print(table.title)
            for line in lines:
                cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
                print("  " + "  ".join(cells).rstrip())
            print(table.note + "\n" if table.note else "")


def _write_figures(folder: Path, found: dict[str, Any], scale: Scale) -> None:
    from streamer.models.evaluation.report import NOTE
    from streamer.models.whole_file import write_whole

    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    about = {"note": NOTE, **scale.as_dict()}
    manifest["metrics"] = {**manifest["metrics"], **found, "evaluation": about}
    write_whole(path, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())
    say(f"figures written into {path}: the bundle has another model_version now")
