"""`streamer model drift`: has traffic moved away from what a bundle was trained on?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.output import print_json, say
from streamer.errors import StreamerError

if TYPE_CHECKING:
    from streamer.models.bundle import Bundle
    from streamer.models.drift import TrafficSample
    from streamer.schemas.click import Session
    from streamer.settings import Settings

_SEED = 0


class NothingToCompareError(StreamerError):
    """A file without sessions, or a bundle without a profile."""


def drift(
    ctx: typer.Context,
    first: Annotated[
        Path, typer.Argument(metavar="FILE", help="Clicks as JSON lines, or sessions of `streamer replay`.")
    ],
    second: Annotated[
        Path | None,
        typer.Argument(metavar="[LATER]", help="What FILE is compared with. None: the bundle's profile."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="DIR", help="Default: that of the settings.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare the clicks of two periods, or of one with the profile in the bundle."""
    from streamer.models.bundle import default_bundle, load_bundle

    settings = ctx.obj.settings()
    loaded = load_bundle(bundle or settings.model.bundle or default_bundle())
    if second is None:
        found = _against_profile(loaded, sessions_of_people(first, settings), first)
    else:
        found = _against_each_other(
            loaded, sessions_of_people(first, settings), sessions_of_people(second, settings)
        )
    found = {"model_version": loaded.model_version, **found}
    if json:
        print_json(found)
    else:
        _show(found)


def _against_profile(bundle: Bundle, sessions: list[Session], file: Path) -> dict[str, Any]:
    import numpy as np

    from streamer.models.drift import compare, report
    from streamer.models.drift_profile import ProfileLayout

    profile = bundle.manifest.profile
    if profile is None:
        raise NothingToCompareError(
            f"{bundle.model_version} was made without a profile: expected a second file to compare"
            f" {file} with, or a bundle trained anew"
        )
    layout = ProfileLayout(bundle.taxonomy, profile.novelty_deciles, bundle.tokenizer.first_learnt)
    sample = _scored(bundle, sessions)
    rng = np.random.default_rng(_SEED)
    moved = compare(layout, layout.total(profile)[None, :], sample.by_visitor(layout), rng)
    return report(moved, profile.sessions, sample.sessions)


def _scored(bundle: Bundle, sessions: list[Session]) -> TrafficSample:
    from streamer.models.drift import traffic_sample

    sample = traffic_sample(bundle, sessions)
    if not sample.sessions:
        raise NothingToCompareError(f"{bundle.model_version} can't score any of {len(sessions)} sessions")
    if sample.unscored:
        say(f"left out: {sample.unscored:,} of {len(sessions):,} sessions, which can't be scored")
    return sample


def _against_each_other(bundle: Bundle, before: list[Session], after: list[Session]) -> dict[str, Any]:
    import numpy as np

    from streamer.models.drift import compare, report
    from streamer.models.drift_profile import ProfileLayout

    a, b = _scored(bundle, before), _scored(bundle, after)
    layout = ProfileLayout(bundle.taxonomy, a.deciles(), bundle.tokenizer.first_learnt)
    moved = compare(layout, a.by_visitor(layout), b.by_visitor(layout), np.random.default_rng(_SEED))
    return report(moved, a.sessions, b.sessions)


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
    people = [session for session in found if not session.is_bot and session.clicks]
    if not people:
        raise NothingToCompareError(f"{file}: has no session of a person among {len(found)} sessions")
    say(f"{file}: {len(people):,} sessions of people")
    return people


def _show(found: dict[str, Any]) -> None:
    sessions = found["sessions"]
    typer.echo(f"{found['verdict']}: {sessions['before']:,} sessions before, {sessions['after']:,} after")
    for each in found["parts"]:
        low, high = each["psi_interval"]
        typer.echo(f"{each['part']:<11} PSI {each['psi']:.3f} ({low:.3f} to {high:.3f})  {each['verdict']}")
        if each["verdict"] != "alike":
            for name, before, after in each["changes"]:
                typer.echo(f"              {name}: {before:.1%} to {after:.1%}")
