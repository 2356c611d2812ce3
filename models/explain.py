"""Why a session got its label: what each click and each field adds to the label's calibrated log odds.

Exact by leaving out, as `leave_out` says. A field is left out by making it missing in all clicks; the clicks
stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from math import comb
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np

from streamer.models.arrays import Float32, Float64, Int64
from streamer.models.bundle import Bundle
from streamer.models.calibration import AbstainReason, log_odds
from streamer.models.encoded import Encoded
from streamer.models.fields import EVENT_FIELDS, SESSION_FIELDS
from streamer.models.leave_out import contributions, outputs_without, strongest
from streamer.models.runtime import Outputs
from streamer.models.scorer import ScoredIntent, ScoreError, Scorer
from streamer.schemas.click import Session

QUERY: Final = "search_query"
FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        **{name: (name,) for name in EVENT_FIELDS if not name.startswith("path_")},
        "path": tuple(name for name in EVENT_FIELDS if name.startswith("path_")),
        QUERY: (),
        **{name: (name,) for name in SESSION_FIELDS},
    }
)
"""What is left out together, by the name it has for people: columns of EVENT_FIELDS or SESSION_FIELDS. The
extra fields of a bundle come besides."""
SETS_TRIED = 64
"""Sets of clicks that are left out, at most, to find the smallest that changes the label: all sets of six
clicks, as many as the median session has."""


class Without(NamedTuple):
    """What the bundle says of the session without something."""

    contribution: float
    """Of what is left out, to the log odds of the explained intent; above 0: it speaks for it."""
    probability: float
    """Of the explained intent without it."""


class Label(NamedTuple):
    """What a record would say."""

    top_intent: str | None
    """Id; None: it abstains."""
    abstain_reason: AbstainReason | None


class Change(NamedTuple):
    """Clicks without which the session has another label: another intent, none, or one after all."""

    clicks: tuple[int, ...]
    """Their places among the kept clicks, rising."""
    label: Label
    is_smallest: bool
    """False: a smaller set may do, for not all were tried."""


class Evidence(NamedTuple):
    """What decides whether a session is labelled, with the bundle's limits."""

    clicks: int
    min_clicks: int
    novelty: float
    max_novelty: float
    probability: float
    """Of the best intent."""
    min_probability: float


@dataclass(frozen=True)
class Explanation:
    intents: Sequence[ScoredIntent]
    """The best five, the explained one first: the label, or what it would be if the bundle didn't abstain."""
    label: Label
    evidence: Evidence
    embedding: Float32
    """[D]"""
    log_odds: float
    """Of the explained intent."""
    clicks: Sequence[Without | None]
    """By kept click. None if it is the only one: a session without clicks has no label."""
    fields: Mapping[str, Without]
    """By names of FIELDS; only those that the session has."""
    change: Change | None
    """None: no set that was tried changes the label."""

    @property
    def strongest(self) -> list[int]:
        """Places of the clicks that speak for the intent, the strongest first."""
        return strongest([None if each is None else each.contribution for each in self.clicks])


def explain(scorer: Scorer, session: Session) -> Explanation | ScoreError:
    """The label of a session, or of its best candidate if the bundle abstains."""
    (scored,) = scorer.score([session])
    if isinstance(scored, ScoreError):
        return scored
    bundle, best = scorer.bundle, scored.intents[0]
    variants = _Variants(bundle, session, best)
    alone = len(session.clicks) == 1
    by_click = [] if alone else variants.without([(at,) for at in range(len(session.clicks))])
    names, encoded = _without_fields(bundle.tokenizer.encode([session])[0], _columns(bundle))
    probabilities, novelty = _numbers(bundle, bundle.runtime.run_all([encoded]))
    label = Label(scored.top_intent, scored.abstain_reason)
    calibration = bundle.calibration
    return Explanation(
        intents=scored.intents,
        label=label,
        evidence=Evidence(
            clicks=session.event_count,
            min_clicks=calibration.min_clicks,
            novelty=float(novelty[0]),
            max_novelty=calibration.max_novelty,
            probability=best.probability,
            min_probability=calibration.min_probability,
        ),
        embedding=scored.embedding,
        log_odds=variants.log_odds,
        clicks=[None] if alone else [each.effect for each in by_click],
        fields=dict(zip(names, variants.effects(probabilities[1:]), strict=True)),
        change=_smallest_change(variants, by_click, label),
    )


def nearest(embedding: Float32, embeddings: Float32, most: int) -> tuple[Int64, Float64]:
    """Rows of `embeddings` [N, D] that are nearest to `embedding` [D] by cosine, nearest first, and the
    cosines."""
    lengths = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(embedding)
    cosines = (embeddings @ embedding).astype(np.float64) / np.maximum(lengths, np.finfo(np.float32).tiny)
    rows = np.argsort(-cosines, kind="stable")[:most]
    return rows, cosines[rows]


class _Left(NamedTuple):
    """What the bundle says of what is left of a session."""

    effect: Without
    label: Label


class _Variants:
    """Variants of one session, and what they say of one intent."""

    def __init__(self, bundle: Bundle, session: Session, explained: ScoredIntent) -> None:
        self._bundle = bundle
        self._session = session
        ids = [intent.id for intent in bundle.taxonomy.intents]
        self._ids, self._explained = ids, ids.index(explained.intent_id)
        self._probability = explained.probability
        self.log_odds = float(log_odds(np.array(explained.probability, np.float32)))

    def without(self, sets: Sequence[Sequence[int]]) -> list[_Left]:
        """By set of clicks that is left out."""
        sessions, outputs = outputs_without(self._bundle, [self._session] * len(sets), sets)
        probabilities, novelty = _numbers(self._bundle, outputs)
        best = probabilities.argmax(1)
        chances = probabilities[np.arange(len(sets)), best]
        reasons = self._bundle.calibration.reasons_to_abstain(sessions, novelty, chances)
        labels = (
            Label(None if reason else self._ids[number], reason)
            for number, reason in zip(best.tolist(), reasons, strict=True)
        )
        return list(map(_Left, self.effects(probabilities), labels))

    def effects(self, probabilities: Float32) -> list[Without]:
        """Of probabilities [N, K] without something."""
        chances = probabilities[:, self._explained]
        found = contributions(self._probability, chances)
        return list(map(Without, found.tolist(), chances.tolist()))


def _numbers(bundle: Bundle, outputs: Outputs) -> tuple[Float32, Float32]:
    """[N, K] probabilities and [N] novelty."""
    return bundle.calibration.probabilities(outputs.logits), outputs.novelty


def _columns(bundle: Bundle) -> dict[str, list[int]]:
    """Of a click's ids, by the field's name: EVENT_FIELDS, then the bundle's extra fields."""
    found: dict[str, list[int]] = {}
    names = (*EVENT_FIELDS, *bundle.tokenizer.extras.names)
    for column, field in enumerate(bundle.tokenizer.event_columns):
        found.setdefault(names[field], []).append(column)
    return found


def _without_fields(encoded: Encoded, columns_of: Mapping[str, list[int]]) -> tuple[list[str], Encoded]:
    """Names of the fields that the one session has; the whole session, then it without each of them."""
    groups = {**FIELDS, **{name: (name,) for name in columns_of if name not in EVENT_FIELDS}}
    present = {name for name, at in columns_of.items() if encoded.event_ids[0, :, at].any()}
    present |= {name for at, name in enumerate(SESSION_FIELDS) if encoded.session_ids[0, at]}
    if encoded.query_slot.any():
        present.add(QUERY)
    names = [name for name, columns in groups.items() if present.intersection((name, *columns))]
    count = 1 + len(names)
    copies = {field.name: getattr(encoded, field.name).repeat(count, axis=0) for field in fields(Encoded)}
    found = Encoded(**copies | {"rows": np.arange(count)})
    for row, name in enumerate(names, start=1):
        for column in groups[name]:
            if column in columns_of:
                found.event_ids[row, :, columns_of[column]] = 0
            else:
                found.session_ids[row, SESSION_FIELDS.index(column)] = 0
        if name == QUERY:
            found.query_slot[row] = 0
        if name == "dwell":
            found.dwell_z[row] = 0
    return names, found


def _smallest_change(variants: _Variants, by_click: Sequence[_Left], label: Label) -> Change | None:
    """All sets of a size are tried, the smallest size first, while they are few. Beyond, the clicks that
    speak most for the intent are left out one after the other."""
    count, size = len(by_click), 2
    change = _changing([(at,) for at in range(count)], by_click, label)
    if change or count <= size:
        return change
    sets: list[tuple[int, ...]] = []
    while size < count and len(sets) + comb(count, size) <= SETS_TRIED:
        sets += combinations(range(count), size)
        size += 1
    change = _changing(sets, variants.without(sets), label) if sets else None
    if change or size == count:
        return change
    return _change_by_strongest(variants, by_click, label, size)


def _changing(sets: Sequence[tuple[int, ...]], found: Sequence[_Left], label: Label) -> Change | None:
    """The smallest set that changes the label; of several the one that takes most from the intent."""
    changing = [
        (-len(chosen), left.effect.contribution, chosen, left.label)
        for chosen, left in zip(sets, found, strict=True)
        if left.label.top_intent != label.top_intent
    ]
    if not changing:
        return None
    *_, chosen, other = max(changing)
    return Change(chosen, other, is_smallest=True)


def _change_by_strongest(
    variants: _Variants, by_click: Sequence[_Left], label: Label, least: int
) -> Change | None:
    """The change by the fewest of the strongest clicks, `least` of them or more; one click has to stay."""
    by_contribution = sorted(range(len(by_click)), key=lambda at: -by_click[at].effect.contribution)
    sets = [tuple(sorted(by_contribution[:size])) for size in range(least, len(by_contribution))]
    for chosen, left in zip(sets, variants.without(sets), strict=True):
        if left.label.top_intent != label.top_intent:
            return Change(chosen, left.label, is_smallest=False)
    return None
