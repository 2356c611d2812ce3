"""`streamer model drift`: has traffic, or what follows it, moved away from what a bundle was trained on?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from streamer.cli.output import print_json, say
from streamer.cli.replay import html_file, progress
from streamer.errors import StreamerError, UsageError

if TYPE_CHECKING:
    from streamer.models.bundle import Bundle
    from streamer.models.drift import TrafficSample
    from streamer.schemas.click import Session
    from streamer.settings import Settings

_SEED = 0


class NothingToCompareError(StreamerError):
    """A file without sessions, or a bundle without a profile."""


class Periods(NamedTuple):
    """Sessions of people; `before` None: the bundle's profile."""

    before: list[Session] | None
    after: list[Session]


def drift(
    ctx: typer.Context,
    first: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="Clicks as JSON lines, or sessions of `streamer replay`. None: the clicks topic.",
        ),
    ] = None,
    second: Annotated[
        Path | None,
        typer.Argument(metavar="[LATER]", help="What FILE is compared with. None: the bundle's profile."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="TIME", help="Compare sessions closed at this time or later with those before."
        ),
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(
            "--outcomes",
            metavar="FILE",
            help="What visitors did, as `replay` takes it: whether rates and calibration have moved, too.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.html", help="A page with plots; JSON beside it."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="DIR", help="Default: that of the settings.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare the clicks of two periods, or of one with the profile in the bundle."""
    from streamer.models.bundle import default_bundle, load_bundle

    since_ms = _checked(second, since, outcomes, report)
    settings = ctx.obj.settings()
    loaded = load_bundle(bundle or settings.model.bundle or default_bundle())
    periods = _periods(first, second, since_ms, settings)
    found = {"model_version": loaded.model_version, **_compared(loaded, periods, since_ms)}
    found["outcomes"] = None if outcomes is None else _of_outcomes(loaded, periods, outcomes)
    found["verdict"] = _worst(found)
    if report is not None:
        from streamer.backtest.drift_page import drift_page
        from streamer.backtest.report import write_report

        say(f"report written to {report} and {write_report(found, report, drift_page(found))}")
    if json:
        print_json(found)
        return
    for line in _lines(found):
        typer.echo(line)


def _checked(
    second: Path | None, since: str | None, outcomes: Path | None, report: Path | None
) -> int | None:
    """`--since` in ms UTC. Raises UsageError."""
    from streamer.kafka.start import parse_time

    if since is not None and second is not None:
        raise UsageError("--since: expected without LATER, for it parts the sessions of one FILE")
    if outcomes is not None and since is None and second is None:
        raise UsageError("--outcomes: expected with --since TIME or LATER: two periods are compared")
    if report is not None:
        html_file(report)
    return None if since is None else parse_time(since, "--since")


def _periods(first: Path | None, second: Path | None, since_ms: int | None, settings: Settings) -> Periods:
    sessions = sessions_of_topic(settings) if first is None else sessions_of_people(first, settings)
    if second is not None:
        return Periods(sessions, sessions_of_people(second, settings))
    if since_ms is None:
        return Periods(None, sessions)
    before = [session for session in sessions if session.closed_at < since_ms]
    after = [session for session in sessions if session.closed_at >= since_ms]
    if not before or not after:
        closed = [session.closed_at for session in sessions]
        raise NothingToCompareError(
            f"--since {_date(since_ms)}: {len(before):,} sessions closed before, {len(after):,} since; they"
            f" closed from {_date(min(closed))} to {_date(max(closed))}"
        )
    return Periods(before, after)


def _date(at_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_ms / 1000))


def _compared(bundle: Bundle, periods: Periods, since_ms: int | None) -> dict[str, Any]:
    import numpy as np

    from streamer.models.drift import compare, report
    from streamer.models.drift_profile import ProfileLayout

    profile = bundle.manifest.profile
    after = _scored(bundle, periods.after)
    if periods.before is not None:
        before = _scored(bundle, periods.before)
        layout = ProfileLayout(bundle.taxonomy, before.deciles(), bundle.tokenizer.first_learnt)
        reference, count, samples = before.by_visitor(layout), before.sessions, [before, after]
    elif profile is not None:
        layout = ProfileLayout(bundle.taxonomy, profile.novelty_deciles, bundle.tokenizer.first_learnt)
        reference, count, samples = layout.total(profile)[None, :], profile.sessions, [after]
    else:
        raise NothingToCompareError(
            f"{bundle.model_version} was made without a profile: expected --since TIME or a second file to"
            " compare with, or a bundle trained anew"
        )
    moved = compare(layout, reference, after.by_visitor(layout), np.random.default_rng(_SEED))
    days = [day for sample in samples for day in sample.by_day(layout, reference.sum(0))]
    return {
        "against": "profile" if periods.before is None else "before",
        "since": since_ms,
        **report(moved, count, after.sessions),
        "days": [asdict(day) for day in sorted(days, key=lambda day: day.day)],
    }


def _scored(bundle: Bundle, sessions: list[Session]) -> TrafficSample:
    from streamer.models.drift import traffic_sample

    sample = traffic_sample(bundle, sessions)
    if not sample.sessions:
        raise NothingToCompareError(f"{bundle.model_version} can't score any of {len(sessions)} sessions")
    if sample.unscored:
        say(f"left out: {sample.unscored:,} of {len(sessions):,} sessions, which can't be scored")
    return sample


def _of_outcomes(bundle: Bundle, periods: Periods, outcomes: Path) -> dict[str, Any]:
    import numpy as np

    from streamer.backtest.probe_features import VISITOR
    from streamer.backtest.probe_sessions import read_probe_outcomes, scored_sessions
    from streamer.models.evaluation.outcome_drift import outcome_drift

    events = read_probe_outcomes(outcomes, VISITOR)
    before, after = (
        scored_sessions(sessions, bundle, VISITOR, {session.visitor_id for session in sessions})
        for sessions in (periods.before or [], periods.after)
    )
    return outcome_drift(before, after, events, np.random.default_rng(_SEED))


def _worst(found: Mapping[str, Any]) -> str:
    """Of the profile's parts and of outcomes."""
    from streamer.models.drift import VERDICTS

    measured = found["outcomes"] or {}
    if found["verdict"] not in VERDICTS:
        return str(found["verdict"])
    changes = [*measured.get("rates", ()), *measured.get("claimed_over_true", ())]
    error = [measured["ece"]] if "ece" in measured else []
    verdicts: list[str] = [each["verdict"] for each in (found, *changes, *error)]
    return max(verdicts, key=VERDICTS.index)


def sessions_of_topic(settings: Settings) -> list[Session]:
    """Sessions of people in what the clicks topic has of them; of too many, whole visitors."""
    from streamer.cli.recipe import sessions_to_learn_from
    from streamer.replay.options import FROM_TOPIC, ReplayOptions, bundles_of
    from streamer.replay.run import replay
    from streamer.replay.time_range import TimeRange

    with tempfile.TemporaryDirectory(prefix="streamer-drift-") as folder, progress() as show:
        rows = Path(folder) / "sessions.parquet"
        options = ReplayOptions(TimeRange(), FROM_TOPIC, bundles_of([], settings), str(rows), users=False)
        replay(settings, options, show)
        return _people(settings.topics.clicks, sessions_to_learn_from(rows))


def sessions_of_people(file: Path, settings: Settings) -> list[Session]:
    """Sessions of people, from clicks or from a replay's file; of too many, whole visitors."""
    from streamer.line_file import at_rest, is_parquet

    with at_rest(file) as readable:
        if is_parquet(readable):
            from streamer.cli.recipe import sessions_to_learn_from

            found = sessions_to_learn_from(readable)
        else:
            from streamer.cli.recipe import say_clicks
            from streamer.replay.file_source import sessions_of_file
            from streamer.rules_from_settings import session_rules

            found, counters = sessions_of_file(readable, session_rules(settings), settings.clicks)
            say_clicks(counters)
    return _people(str(file), found)


def _people(where: str, sessions: list[Session]) -> list[Session]:
    people = [session for session in sessions if not session.is_bot and session.clicks]
    if not people:
        raise NothingToCompareError(f"{where}: has no session of a person among {len(sessions)} sessions")
    say(f"{where}: {len(people):,} sessions of people")
    return people


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    sessions = found["sessions"]
    yield f"{found['verdict']}: {sessions['before']:,} sessions before, {sessions['after']:,} after"
    for each in found["parts"]:
        low, high = each["psi_interval"]
        yield f"{each['part']:<11} PSI {each['psi']:.3f} ({low:.3f} to {high:.3f})  {each['verdict']}"
        if each["verdict"] != "alike":
            for name, before, after in each["changes"]:
                yield f"              {name}: {before:.1%} to {after:.1%}"
    outcomes = found["outcomes"]
    if outcomes is None:
        return
    if "skipped" in outcomes:
        yield f"outcomes are not compared: {outcomes['skipped']}"
        return
    for what, key in (("share of sessions", "rates"), ("claimed over true", "claimed_over_true")):
        moved = [each for each in outcomes[key] if each["verdict"] != "alike"]
        yield f"{what}: {len(outcomes[key]) - len(moved)} of {len(outcomes[key])} outcomes alike"
        for each in moved:
            yield (
                f"  {each['outcome']}: {_number(each['before']['value'])} to"
                f" {_number(each['after']['value'])}  {each['verdict']}"
            )
    error = outcomes["ece"]
    yield (
        f"calibration error {_number(error['before']['value'])} to {_number(error['after']['value'])}"
        f"  {error['verdict']}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
