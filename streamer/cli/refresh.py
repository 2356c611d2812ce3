"""`streamer model refresh`: a bundle trained anew, and whether it may take the live one's place."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.local_paths import local_path, out_path
from streamer.cli.output import print_json, say
from streamer.cli.replay import html_file, progress, run_replay, write_backtest
from streamer.errors import StreamerError, UsageError

if TYPE_CHECKING:
    from streamer.backtest.promotion import Judgement
    from streamer.models.bundle import Bundle
    from streamer.replay.run import ReplaySummary
    from streamer.settings import Settings

WORK = Path("runs/refresh")
_SEED = 0


class NotPromotedError(StreamerError):
    """The candidate isn't to take the live bundle's place, or nobody can tell."""


def refresh(
    ctx: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="Clicks as JSON lines, may be gzipped. None: the clicks topic."
        ),
    ] = None,
    out: Annotated[Path | None, out_path("--out", "DIR", "The folder to write the new bundle to.")] = None,
    candidate: Annotated[
        Path | None,
        typer.Option(
            "--candidate", metavar="DIR", help="A bundle that is there already: nothing is trained."
        ),
    ] = None,
    live: Annotated[
        Path | None, typer.Option("--live", metavar="DIR", help="Default: that of the settings.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="Of the topic: sessions closed from then on.")
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option("--outcomes", metavar="FILE", help="What visitors did, as `replay` takes it."),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            "--margin", min=0.0, max=1.0, help="What a metric may lose at most, relative [default: 0.05]."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="The backtest. Default: in the folder of --work."),
    ] = None,
    work: Annotated[Path, local_path("--work", "DIR", "Where steps leave their results.")] = WORK,
    recipe_file: Annotated[
        Path | None, typer.Option("--recipe", metavar="FILE", help="As for train.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Default: the live bundle's.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of training.")] = 7,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train a bundle on newer clicks, backtest it against the live one, and say whether to promote it.

    Exit code 0: promote, by way of a shadow first. 1: keep the live bundle, or it can't be told.
    """
    import numpy as np

    from streamer.backtest.promotion import MARGIN, judge, more_unlabelled
    from streamer.backtest.tasks import read_outcomes
    from streamer.models.bundle import default_bundle, load_bundle

    new = candidate or out
    if new is None or (candidate and out):
        raise UsageError("refresh: expected either --out DIR, to train, or --candidate DIR")
    report = report or work / "backtest.html"
    html_file(report)
    settings = ctx.obj.settings()
    known = None if outcomes is None else read_outcomes(outcomes)
    before = load_bundle(live or settings.model.bundle or default_bundle())
    if out is not None:
        sessions = work / "sessions.parquet"
        _replayed(settings, file, start, (before.path,), sessions)
        _train(ctx, before, sessions, work, out, recipe_file, epochs, seed)
    after = load_bundle(new)
    if after.model_version == before.model_version:
        raise UsageError(
            f"{after.path}: is {before.model_version} itself, expected another than the live one"
        )
    rows = work / "backtest.parquet"
    summary = _replayed(settings, file, start, (before.path, after.path), rows)
    document = write_backtest(report, str(rows), summary.as_dict(), known)
    more = more_unlabelled(rows, document["bundles"], np.random.default_rng(_SEED))
    found = judge(document, after.manifest, more, MARGIN if margin is None else margin)
    if json:
        versions = {"live": before.model_version, "candidate": after.model_version}
        print_json({**versions, **found.as_dict(), "report": str(report)})
    else:
        _show(found)
    _conclude(found, before, after)


def _train(
    ctx: typer.Context,
    live: Bundle,
    rows: Path,
    work: Path,
    out: Path,
    recipe_file: Path | None,
    epochs: int | None,
    seed: int,
) -> None:
    """By the live bundle's settings, with the ids of its taxonomy where intents are the same."""
    from streamer.cli.model import Readout, TeacherName, train

    config = live.manifest.config
    if config.get("fields") and recipe_file is None:
        names = ", ".join(each["name"] for each in config["fields"])
        raise UsageError(
            f"{live.model_version} learnt from {names}, too: expected --recipe FILE that has them"
        )
    if live.manifest.teacher != TeacherName.KEYLESS:
        say(
            f"{live.model_version} was labelled by {live.manifest.teacher}, this one is by clusters; train it"
            " yourself and give it as --candidate for another teacher"
        )
    train(
        ctx,
        out,
        rows,
        seed=seed,
        epochs=epochs or config.get("epochs"),
        work=work / "model",
        previous=live.path / "taxonomy.json",
        batch=config.get("batch"),
        weight_causal=config.get("weight_causal", 0.0),
        weight_visitor=config.get("weight_visitor", 0.0),
        readout=Readout(config.get("readout", Readout.MEAN)),
        recipe_file=recipe_file or _recipe_of(config, work / "recipe.toml"),
    )


def _recipe_of(config: Mapping[str, Any], file: Path) -> Path:
    """The live bundle's objectives as a recipe file. Before they could be chosen, all were in every batch."""
    from streamer.models.training.config import OBJECTIVES

    lines = [
        f"rest_every = {config.get('rest_every', 1)}",
        f"events_of_pages = {'true' if config.get('events_of_pages', True) else 'false'}",
        "[weights]",
        *(f"{name} = {config[key]}" for name in OBJECTIVES if (key := f"weight_{name}") in config),
        "[hashed]",
        *(f"{name} = {size}" for name, size in config.get("hashed", {}).items()),
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def _replayed(
    settings: Settings, file: Path | None, start: str | None, bundles: tuple[Path, ...], out: Path
) -> ReplaySummary:
    from streamer.replay.options import FROM_TOPIC, ReplayOptions, time_range_of

    source = FROM_TOPIC if file is None else str(file)
    time_range = time_range_of(start, None, int(time.time() * 1000))
    users = settings.identity.enabled
    out.parent.mkdir(parents=True, exist_ok=True)
    with progress() as show:
        return run_replay(settings, ReplayOptions(time_range, source, bundles, str(out), users=users), show)


def _show(found: Judgement) -> None:
    words = {True: "passed", False: "FAILED", None: "can't be told"}
    for check in found.checks:
        typer.echo(f"{words[check.passed]:<14} {check.name}: {check.found}; expected {check.bound}")
    typer.echo(found.verdict)


def _conclude(found: Judgement, live: Bundle, candidate: Bundle) -> None:
    if found.verdict == "promote":
        say(
            f"next, as a shadow: model.shadow_bundle = {str(candidate.path)!r} in the settings, `streamer"
            " topics create`, restart the workers, and see for some days that streamer_shadow_failures_total"
            " stays 0"
        )
        say(
            f"then, live: model.bundle = {str(candidate.path)!r}, model.shadow_bundle taken out, restart"
            f" the workers; the way back is model.bundle = {str(live.path)!r}"
        )
        return
    asked: bool | None = False if found.verdict == "keep" else None
    names = "; ".join(check.name for check in found.checks if check.passed is asked)
    if found.verdict == "keep":
        raise NotPromotedError(f"keep {live.model_version}: {candidate.model_version} failed: {names}")
    raise NotPromotedError(
        f"undecided, so keep {live.model_version}: can't be told of {candidate.model_version}: {names};"
        " expected --outcomes FILE, more of them, or a wider --margin"
    )
