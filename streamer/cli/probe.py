"""`streamer model probe`: what the embedding is worth to a team that has features and outcomes of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.local_paths import out_path
from streamer.cli.output import print_json, say
from streamer.cli.steps import step_bars
from streamer.errors import StreamerError, UsageError

if TYPE_CHECKING:
    from streamer.models.bundle import Bundle
    from streamer.models.evaluation.probe.rows import KnownSessions, Outcome, ProbeRows, TeamFeatures
    from streamer.settings import Settings

_DAY_MS = 86_400_000
_MOST_DAYS = 36_500
_FEWEST_LABELS = 50
_LABELS = "50,100,400"
_DRAWS = 8


class ProbeFailedError(StreamerError):
    """Nothing can be measured on these files; the text says why."""


def probe(
    ctx: typer.Context,
    features: Annotated[
        Path,
        typer.Argument(metavar="FEATURES", help="CSV, JSON lines or parquet: an id, time, features."),
    ],
    outcomes: Annotated[
        Path, typer.Argument(metavar="OUTCOMES", help="JSON lines, as `replay --outcomes` takes them.")
    ],
    sessions: Annotated[
        Path,
        typer.Option("--sessions", metavar="FILE", help="A replay's parquet, or clicks, which are scored."),
    ],
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", metavar="DIR", help="Scores clicks. Default: that of the settings."),
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            "--outcome",
            metavar="NAME",
            help="Outcomes that count, such as 'loan-*'; repeatable. Default: all.",
        ),
    ] = None,
    as_one: Annotated[
        bool, typer.Option("--any", help="Treat all outcomes that count as one class.")
    ] = False,
    within_days: Annotated[
        float,
        typer.Option(
            "--within-days",
            min=0.001,
            max=_MOST_DAYS,
            help="An outcome counts if it comes within so many days.",
        ),
    ] = 14.0,
    with_none: Annotated[
        bool, typer.Option("--none/--no-none", help="Whether rows without an outcome are a class.")
    ] = True,
    labels: Annotated[
        str, typer.Option("--labels", metavar="N,N", help="Numbers of labels to learn from, beside all.")
    ] = _LABELS,
    draws: Annotated[int, typer.Option("--draws", min=_DRAWS, help="Of labels and test rows.")] = _DRAWS,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws.")] = 0,
    concatenated: Annotated[
        bool, typer.Option("--concatenated", help="Show features and embedding concatenated, too.")
    ] = False,
    out: Annotated[Path | None, out_path("--out", "FILE", "Write the fused scorer, as JSON.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a team's features, n-grams of pages, the embedding, and both fused, at few labels and all."""
    from streamer.models.bundle import default_bundle, load_bundle
    from streamer.models.evaluation.probe.experiment import ProbePlan, fused_scorer
    from streamer.models.evaluation.probe.experiment import probe as run
    from streamer.models.evaluation.probe.rows import probe_rows
    from streamer.output_file import output_file

    plan = ProbePlan(_counts(labels), draws, seed, concatenated)
    settings = ctx.obj.settings()
    loaded = load_bundle(bundle or settings.model.bundle or default_bundle())
    of_team, events, known = _read(features, outcomes, sessions, bundle is not None, loaded, settings)
    with _explained():
        rows = probe_rows(
            of_team, events, known, round(within_days * _DAY_MS), outcome or (), as_one, with_none
        )
    rows = _with_memberships(rows, loaded)
    with step_bars() as show:
        found = run(rows, plan, show)
    if out is not None:
        with output_file(out) as file:
            file.write(fused_scorer(rows, seed).dumps())
        say(f"fused scorer written to {out}")
    if json:
        print_json(found)
        return
    for line in _lines(found):
        typer.echo(line)


def _read(
    features: Path, outcomes: Path, sessions: Path, named: bool, bundle: Bundle, settings: Settings
) -> tuple[TeamFeatures, list[Outcome], KnownSessions]:
    from streamer.backtest.probe_features import read_features
    from streamer.backtest.probe_sessions import read_probe_outcomes
    from streamer.line_file import at_rest

    with at_rest(features) as readable:
        id_column, of_team = read_features(readable)
    events = read_probe_outcomes(outcomes, id_column)
    with at_rest(sessions) as readable:
        owners = {*of_team.owners, *(event.owner for event in events)}
        known = _known(readable, named, bundle, settings, id_column, owners)
    say(f"{len(of_team.at):,} rows of features, {len(events):,} outcomes, {len(known.sessions):,} sessions")
    return of_team, events, known


def _known(
    file: Path, named: bool, bundle: Bundle, settings: Settings, id_column: str, owners: set[str]
) -> KnownSessions:
    """`named`: the bundle is that of an option."""
    from streamer.backtest.probe_sessions import scored_sessions, sessions_of_replay
    from streamer.line_file import is_parquet

    if is_parquet(file):
        if named:
            raise UsageError(f"--bundle: expected with a file of clicks; {file} has its vectors")
        return sessions_of_replay(file, id_column, owners)
    from streamer.cli.recipe import say_clicks
    from streamer.replay.file_source import sessions_of_file
    from streamer.rules_from_settings import session_rules

    found, counters = sessions_of_file(file, session_rules(settings), settings.clicks)
    say_clicks(counters)
    if not found:
        raise UsageError(f"{file}: no session in it; expected clicks, or sessions that a replay has written")
    return scored_sessions(found, bundle, id_column, owners)


def _with_memberships(rows: ProbeRows, bundle: Bundle) -> ProbeRows:
    """In the bundle's prototypes, if it has some and they are of the space of the rows' vectors."""
    import numpy as np

    prototypes = bundle.prototypes
    if prototypes is None or prototypes.embedding_space != rows.embedding_space:
        return rows
    memberships = prototypes.memberships(rows.inputs.embeddings.astype(np.float32))
    return replace(rows, memberships=memberships.astype(np.float64))


@contextmanager
def _explained() -> Iterator[None]:
    from streamer.models.evaluation.probe.rows import ProbeError

    try:
        yield
    except ProbeError as error:
        raise ProbeFailedError(str(error)) from error


def _counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        counts = (0,)
    if any(count < _FEWEST_LABELS for count in counts):
        raise UsageError(
            f"--labels {text!r}: expected numbers with commas, {_FEWEST_LABELS} each at least: {_LABELS}"
        )
    return counts


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    classes = ", ".join(f"{count:,} {name}" for name, count in found["classes"].items())
    yield f"{found['rows']:,} rows of {found['owners']:,} visitors or customers: {classes}"
    if found["left_out"]:
        yield "left out: " + ", ".join(f"{count:,} {reason}" for reason, count in found["left_out"].items())
    yield f"AUC by number of labels, mean of {found['draws']} draws, with 95 % intervals"
    levels = found["levels"]
    heads = [f"{'all ' if level['all'] else ''}{level['labels']:,}" for level in levels]
    yield _row("", heads)
    for name in levels[0]["contenders"]:
        yield _row(name, [_value(level["contenders"][name]["auc"]) for level in levels])
    yield "what the embedding adds"
    for name, key in (("to hand", "gain"), ("to features", "gain_over_features")):
        yield _row(name, [_value(level[key]["auc"], "+") for level in levels])
    if "gain_of_memberships" in levels[0]:
        yield _row(
            "memberships beside it", [_value(level["gain_of_memberships"]["auc"], "+") for level in levels]
        )
    yield found["verdict"]


def _row(name: str, cells: Sequence[str]) -> str:
    return f"{name:<37}" + "".join(f"{cell:>24}" for cell in cells)


def _value(estimate: Mapping[str, float], sign: str = "") -> str:
    return "{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]".format(sign=sign, **estimate)
