"""`streamer explain`: why a session got its label, click by click."""

from __future__ import annotations

import asyncio
import heapq
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamer.cli.click_source import ClickShape
from streamer.cli.lazy import new_app
from streamer.cli.output import print_json, say, visible
from streamer.cli.rendering import as_clicks
from streamer.errors import StreamerError, UsageError
from streamer.kafka.start import as_time
from streamer.line_file import at_rest

if TYPE_CHECKING:
    from streamer.models.bundle import Bundle
    from streamer.models.explain import Explanation, Label
    from streamer.models.scorer import ScoredIntent
    from streamer.replay.time_range import TimeRange
    from streamer.schemas.click import Session
    from streamer.settings import Settings

app = new_app()

_NEAREST = 5
_NAMED = 5
"""Session ids that an error names."""
_SESSION_ID = re.compile(r"[0-9a-f]{32}")


class NotExplainedError(StreamerError):
    """There is no such session, or the bundle can't score it."""


@app.command()
def explain(
    ctx: typer.Context,
    session_id: Annotated[
        str | None, typer.Argument(metavar="[SESSION_ID]", help="Of a final record, or of a session of F.")
    ] = None,
    click_file: Annotated[
        Path | None,
        typer.Option("--click-file", metavar="F", help="Clicks (JSONL, parquet) in place of the topics."),
    ] = None,
    clicks: ClickShape = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help="The session was published then or later.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--to", metavar="TIME", help="The session was published before.")
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="DIR", help="Default: that of the settings.")
    ] = None,
    among: Annotated[
        Path | None,
        typer.Option(
            "--nearest", metavar="FILE.parquet", help="The nearest labelled sessions of a replay's file, too."
        ),
    ] = None,
    show_queries: Annotated[
        bool, typer.Option("--show-queries", help="Show what was searched for, too; scrubbed.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say what each click and each field adds to a session's label, exactly, by leaving it out.

    SESSION_ID is looked up in the intents topic; its clicks are read again from the clicks topic.
    """
    from streamer.models.bundle import load_bundle
    from streamer.models.explain import explain as explained
    from streamer.models.scorer import ScoreError, Scorer
    from streamer.replay.options import bundles_of, time_range_of

    if session_id is None and click_file is None:
        raise UsageError("explain: expected a SESSION_ID or --click-file F")
    if session_id is not None and _SESSION_ID.fullmatch(session_id) is None:
        raise UsageError(f"explain {session_id[:40]}: expected a session_id, 32 hex digits")
    if click_file is not None and (start or end):
        raise UsageError("explain --click-file: expected no --from or --to, which say when live published")
    published = time_range_of(start, end, int(time.time() * 1000))
    settings = ctx.obj.settings(clicks__source=clicks)
    (path,) = bundles_of([bundle] if bundle else [], settings)
    loaded = load_bundle(path)
    if click_file is not None:
        session = _of_file(click_file, session_id, settings)
    else:
        session = asyncio.run(_of_topics(str(session_id), published, settings, loaded))
    found = explained(Scorer(loaded), session)
    if isinstance(found, ScoreError):
        raise NotExplainedError(f"session {session.session_id}: {found.reason}")
    document = _document(loaded, session, found, show_queries)
    document["nearest"] = None if among is None else _nearest(among, loaded, session, found)
    if json:
        print_json(document)
    else:
        print(_text_of(document), flush=True)


def _of_file(file: Path, session_id: str | None, settings: Settings) -> Session:
    from streamer.replay.file_source import sessions_of_file
    from streamer.rules_from_settings import session_rules

    with at_rest(file) as readable:
        sessions, counters = sessions_of_file(readable, session_rules(settings), settings.clicks)
    chosen = [each for each in sessions if session_id in (None, each.session_id)]
    if len(chosen) == 1:
        return chosen[0]
    if not sessions:
        raise NotExplainedError(
            f"{file}: no session in it; of {counters.received} clicks {counters.dead_lettered} can't be read"
            f" as {settings.clicks.source} and {counters.filtered} were filtered"
        )
    named = ", ".join(
        f"{each.session_id} ({as_time(each.started_at)}, {as_clicks(each.event_count)})"
        for each in sessions[:_NAMED]
    )
    if not chosen:
        raise NotExplainedError(
            f"{file}: none of its {len(sessions)} sessions is {session_id}; the first are {named}"
        )
    raise UsageError(
        f"{file}: has {len(sessions)} sessions, expected the SESSION_ID of one; the first are {named}"
    )


async def _of_topics(session_id: str, published: TimeRange, settings: Settings, bundle: Bundle) -> Session:
    """Raises UsageError if another bundle has labelled it: this one would explain a label of its own."""
    from streamer.replay.published_session import find_record, replayed_session

    found = await find_record(settings, session_id, published)
    labelled_by = found.record["model_version"]
    if labelled_by != bundle.model_version:
        raise UsageError(
            f"session {session_id} was labelled by {labelled_by}, the bundle {bundle.path} is"
            f" {bundle.model_version}: expected --bundle with the one that labelled it"
        )
    return await replayed_session(settings, found)


def _document(bundle: Bundle, session: Session, found: Explanation, show_queries: bool) -> dict[str, Any]:
    """Everything, ready for JSON."""
    from streamer.models.leave_out import MOST_REASONS
    from streamer.replay.shown_click import shown_click

    labels = {intent.id: intent.label for intent in bundle.taxonomy.intents}
    best, *others = found.intents

    def of_label(label: Label) -> dict[str, Any]:
        name = None if label.top_intent is None else labels[label.top_intent]
        return {"top_intent": label.top_intent, "label": name, "abstain_reason": label.abstain_reason}

    change = found.change
    return {
        "session": {
            name: getattr(session, name)
            for name in ("session_id", "started_at", "ended_at", "closed_at", "close_reason", "event_count")
        },
        "model_version": bundle.model_version,
        "embedding_space": bundle.embedding_space,
        "taxonomy_version": bundle.taxonomy.version,
        **of_label(found.label),
        "evidence": found.evidence._asdict(),
        "explained": {**_intent(best), "log_odds": found.log_odds},
        "runner_up": _intent(others[0]) if others else None,
        "clicks": [
            {
                **shown_click(click, show_queries),
                "contribution": None if each is None else each.contribution,
                "probability_without": None if each is None else each.probability,
            }
            for click, each in zip(session.clicks, found.clicks, strict=True)
        ],
        "strongest": found.strongest[:MOST_REASONS],
        "fields": {
            name: {"contribution": each.contribution, "probability_without": each.probability}
            for name, each in found.fields.items()
        },
        "change": None
        if change is None
        else {"clicks": change.clicks, **of_label(change.label), "is_smallest": change.is_smallest},
    }


def _intent(intent: ScoredIntent) -> dict[str, Any]:
    return {name: getattr(intent, name) for name in ("intent_id", "label", "parent", "probability")}


def _nearest(file: Path, bundle: Bundle, session: Session, found: Explanation) -> list[dict[str, Any]]:
    """Labelled sessions of the file, the nearest first; without the explained one."""
    from streamer.models.explain import nearest
    from streamer.replay.rows import labelled_rows

    best: list[tuple[float, str, str]] = []
    for rows in labelled_rows(file, bundle.embedding_space):
        for place, cosine in zip(*nearest(found.embedding, rows.embeddings, _NEAREST + 1), strict=True):
            if rows.session_ids[place] != session.session_id:
                best.append((float(cosine), rows.session_ids[place], rows.labels[place]))
        best = heapq.nlargest(_NEAREST, set(best))
    if not best:
        say(f"{file}: has no other labelled session")
    return [{"session_id": other, "label": label, "cosine": cosine} for cosine, other, label in best]


def _text_of(document: Mapping[str, Any]) -> str:
    session, explained, clicks = document["session"], document["explained"], document["clicks"]
    name = visible(explained["label"])
    kept = "" if session["event_count"] == len(clicks) else f" ({len(clicks)} kept)"
    return "\n".join(
        [
            f"session {session['session_id']}, {as_time(session['started_at'])}, "
            f"{as_clicks(session['event_count'])}{kept}, closed by {session['close_reason']}",
            f"{_verdict(document)}  [{document['model_version']}]",
            "",
            f"What each click adds to the log odds of {name} ({explained['log_odds']:+.2f}); * the strongest",
            *(_click_line(at, click, document["strongest"]) for at, click in enumerate(clicks)),
            "",
            "What each field adds, over all clicks",
            *_field_lines(document["fields"]),
            "",
            _change(document),
            *_nearest_lines(document["nearest"]),
        ]
    )


def _verdict(document: Mapping[str, Any]) -> str:
    explained, runner_up, evidence = document["explained"], document["runner_up"], document["evidence"]
    next_best = f", then {visible(runner_up['label'])} {runner_up['probability']:.2f}" if runner_up else ""
    best = f"{visible(explained['label'])} {explained['probability']:.2f}{next_best}"
    limits = {
        "ambiguous": f"a probability of {evidence['min_probability']:.2f} is needed",
        "novel": f"novelty is {evidence['novelty']:.2f}, at most {evidence['max_novelty']:.2f} is labelled",
        "too_short": f"{evidence['min_clicks']} clicks or a search are needed",
    }
    reason = document["abstain_reason"]
    return best if reason is None else f"no label, {reason}: {limits[reason]}; the best candidate is {best}"


def _click_line(at: int, click: Mapping[str, Any], strongest: list[int]) -> str:
    from streamer.replay.shown_click import words_of

    added = click["contribution"]
    told = words_of(click)
    mark = "*" if at in strongest else " "
    number = "  -  " if added is None else f"{added:+.2f}"
    moment = as_time(click["timestamp"])[11:19]
    return f"{mark} {number}  {at + 1:>2}  {moment}  {visible('  '.join(told))}"


def _field_lines(fields: Mapping[str, Mapping[str, float]]) -> list[str]:
    ordered = sorted(fields, key=lambda name: -fields[name]["contribution"])
    return [f"  {fields[name]['contribution']:+.2f}  {name}" for name in ordered]


def _change(document: Mapping[str, Any]) -> str:
    change = document["change"]
    if change is None:
        return "Leaving clicks out, as far as tried, doesn't change the label."
    places = ", ".join(str(at + 1) for at in change["clicks"])
    which = f"click {places}" if len(change["clicks"]) == 1 else f"clicks {places}"
    label = f"none ({change['abstain_reason']})" if change["label"] is None else visible(change["label"])
    also = "" if change["is_smallest"] else "; fewer may do, for not all sets were tried"
    return f"Without {which} the label would be {label}{also}."


def _nearest_lines(nearest: list[Mapping[str, Any]] | None) -> list[str]:
    if not nearest:
        return []
    lines = [f"  {each['cosine']:.3f}  {each['session_id']}  {visible(each['label'])}" for each in nearest]
    return ["", "The nearest labelled sessions, by cosine", *lines]
