"""Why a session got its label: its clicks are read again, and each is left out in turn.

That takes a good part of a second, so one session is explained at a time, beside the page's own loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from aiokafka.errors import KafkaError

from streamer.errors import StreamerError
from streamer.models.bundle import Bundle
from streamer.models.explain import Explanation, explain
from streamer.models.leave_out import MOST_REASONS
from streamer.models.scorer import ScoreError, Scorer
from streamer.replay.published_session import PublishedRecord, replayed_session
from streamer.replay.shown_click import shown_click, words_of
from streamer.schemas.click import Click
from streamer.settings import Settings
from streamer.ui.state import Session


class NotExplainedError(StreamerError):
    """The text says why."""


class ClickWeight(NamedTuple):
    """A click of the session, and what it adds to the log odds of the intent."""

    at: int
    """ms UTC"""
    words: str
    contribution: float | None
    """None: the only click."""
    is_strong: bool
    """One of the three that speak most for the intent."""


class Why(NamedTuple):
    intent: str
    """Name of the one that is explained: the label, or the best candidate where there is none."""
    probability: float
    log_odds: float
    clicks: list[ClickWeight]
    fields: list[tuple[str, float]]
    """What each field adds, over all clicks; the largest first."""
    change: str | None
    """What would have changed the label; None: nothing that was tried."""


class Explainer:
    """Of sessions that the bundle of the settings has labelled."""

    def __init__(self, settings: Settings, bundle: Bundle) -> None:
        self._settings = settings
        self._scorer = Scorer(bundle)
        self._busy = asyncio.Lock()

    async def why(self, session: Session, drains_ms: set[int]) -> Why:
        """`drains_ms`: when workers closed everything in its partition. Raises NotExplainedError."""
        async with self._busy:
            try:
                return await asyncio.to_thread(self._why, session, frozenset(drains_ms))
            except StreamerError as error:
                raise NotExplainedError(str(error)) from None
            except KafkaError as error:
                raise NotExplainedError(f"brokers don't answer ({type(error).__name__})") from None

    def _why(self, session: Session, drains_ms: frozenset[int]) -> Why:
        scorer = self._scorer
        if session.model_version != scorer.bundle.model_version:
            raise NotExplainedError(
                f"{session.model_version} has labelled this session, and the page has"
                f" {scorer.bundle.model_version}: start it with the worker's setting model.bundle"
            )
        record = msgspec.structs.asdict(session)
        found = PublishedRecord(record, session.partition, {session.partition: set(drains_ms)})
        replayed = asyncio.run(replayed_session(self._settings, found))
        explanation = explain(scorer, replayed)
        if isinstance(explanation, ScoreError):
            raise NotExplainedError(f"the bundle can't score it: {explanation.reason}")
        return _why_of(explanation, replayed.clicks, scorer, self._settings.ui.show_queries)


def _why_of(found: Explanation, clicks: Sequence[Click], scorer: Scorer, show_queries: bool) -> Why:
    best, strong = found.intents[0], found.strongest[:MOST_REASONS]
    return Why(
        intent=best.label,
        probability=best.probability,
        log_odds=found.log_odds,
        clicks=[
            ClickWeight(
                click.timestamp,
                "  ".join(words_of(shown_click(click, show_queries))),
                None if each is None else each.contribution,
                at in strong,
            )
            for at, (click, each) in enumerate(zip(clicks, found.clicks, strict=True))
        ],
        fields=sorted(
            ((name, each.contribution) for name, each in found.fields.items()), key=lambda each: -each[1]
        ),
        change=_change(found, scorer),
    )


def _change(found: Explanation, scorer: Scorer) -> str | None:
    if found.change is None:
        return None
    labels = {intent.id: intent.label for intent in scorer.bundle.taxonomy.intents}
    change = found.change
    places = ", ".join(str(at + 1) for at in change.clicks)
    top = change.label.top_intent
    label = f"none ({change.label.abstain_reason})" if top is None else labels[top]
    return f"Without {'click' if len(change.clicks) == 1 else 'clicks'} {places} the label would be {label}."
