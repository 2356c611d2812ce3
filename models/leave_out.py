"""What speaks for an intent, by leaving it out: contributions to the log odds, and the strongest clicks of
many sessions at once.

Exact: a contribution is the log odds of the whole session minus those of the session without the click,
scored as any other session is. What is left counts as one session: its next click has the gap to the click
that is now before it, however long, a dwell that was taken from a gap follows, and hour, device and referrer
are those of the clicks that are left. Clicks that the session didn't keep stay unknown.

Contributions don't add up to the log odds: two clicks that say the same have little each, for either will do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import msgspec
import numpy as np

from streamer.models.arrays import Float32, Float64
from streamer.models.bundle import Bundle
from streamer.models.calibration import log_odds
from streamer.models.encoded import Encoded
from streamer.models.fields import DWELL, GAP
from streamer.models.runtime import Outputs
from streamer.schemas.click import HEAD_CLICKS, KEPT_CLICKS, Session

MOST_REASONS = 3
"""Clicks that a record names; people are shown as many as the strongest."""
_AT_ONCE = 4 * KEPT_CLICKS
"""Sessions less a click that are scored together, about; more gain nothing and take memory."""


class Reason(msgspec.Struct, frozen=True, gc=False):
    """A click that speaks for a session's label: its ids and its types, nothing that a customer typed."""

    click: int
    """Number among the session's kept clicks, from 1 on."""
    event_id: str
    event_type: str
    page_type: str | None
    contribution: float
    """To the label's calibrated log odds; above 0."""


class Labelled(NamedTuple):
    """A session, and the intent that is its label."""

    session: Session
    intent: int
    """Place in the taxonomy."""
    probability: float

    @property
    def has_several(self) -> bool:
        """Clicks: nothing is left without the only one."""
        return len(self.session.clicks) > 1


def without(session: Session, left_out: Collection[int]) -> Session:
    """The session as if the clicks at these places of its kept ones had not been; one has to stay."""
    clicks = [click for at, click in enumerate(session.clicks) if at not in left_out]
    return replace(
        session,
        clicks=clicks,
        event_count=session.event_count - len(left_out),
        started_at=clicks[0].timestamp,
        ended_at=clicks[-1].timestamp,
    )


def outputs_without(
    bundle: Bundle, sessions: Sequence[Session], sets: Sequence[Collection[int]]
) -> tuple[list[Session], Outputs]:
    """What is left of each session without its set of clicks, and what the bundle says of it."""
    left = [without(session, left_out) for session, left_out in zip(sessions, sets, strict=True)]
    encoded = bundle.tokenizer.encode(left)
    for each in encoded:
        _hide_time_across_cut(each, sessions, left, sets)
    return left, bundle.runtime.run_all(encoded)


def contributions(probability: float, without_it: Float32) -> Float64:
    """To the log odds, of what takes an intent's probability down to these, [N]."""
    found: Float64 = log_odds(np.array(probability, np.float32)) - log_odds(without_it)
    return found


def strongest(of_clicks: Sequence[float | None]) -> list[int]:
    """Places of the contributions above 0, the largest first, and of equal ones the first."""
    found = [(-each, at) for at, each in enumerate(of_clicks) if each is not None and each > 0]
    return [at for _, at in sorted(found)]


def reasons(bundle: Bundle, labelled: Sequence[Labelled]) -> list[list[Reason]]:
    """Of each session, the clicks that speak most for its label, the strongest first: none if it has but one
    click, or if none does by itself."""
    return [found for part in _parts(labelled) for found in _reasons(bundle, part)]


def _parts(labelled: Sequence[Labelled]) -> Iterator[list[Labelled]]:
    """The sessions in their order, as many as are looked at together."""
    part: list[Labelled] = []
    count = 0
    for each in labelled:
        part.append(each)
        count += len(each.session.clicks)
        if count >= _AT_ONCE:
            yield part
            part, count = [], 0
    yield part


def _reasons(bundle: Bundle, labelled: Sequence[Labelled]) -> list[list[Reason]]:
    rows = [(each, at) for each in labelled if each.has_several for at in range(len(each.session.clicks))]
    chances = np.empty(0, np.float32)
    if rows:
        _, outputs = outputs_without(bundle, [each.session for each, _ in rows], [(at,) for _, at in rows])
        probabilities = bundle.calibration.probabilities(outputs.logits)
        chances = probabilities[np.arange(len(rows)), [each.intent for each, _ in rows]]
    found, start = [], 0
    for each in labelled:
        end = start + len(each.session.clicks) * each.has_several
        of_clicks = contributions(each.probability, chances[start:end]).tolist()
        found.append([_reason(each.session, at, of_clicks[at]) for at in strongest(of_clicks)[:MOST_REASONS]])
        start = end
    return found


def _reason(session: Session, at: int, contribution: float) -> Reason:
    click = session.clicks[at]
    return Reason(at + 1, click.event_id, click.event_type, click.page_type, contribution)


def _hide_time_across_cut(
    encoded: Encoded,
    wholes: Sequence[Session],
    sessions: Sequence[Session],
    sets: Sequence[Collection[int]],
) -> None:
    """Between head and tail the time is unknown with a click less, too: only of KEPT_CLICKS clicks does the
    tokenizer know that others lie between them."""
    for row, number in enumerate(encoded.rows.tolist()):
        whole, clicks = wholes[number], sessions[number].clicks
        if whole.event_count == len(whole.clicks):
            continue
        tail = HEAD_CLICKS - sum(at < HEAD_CLICKS for at in sets[number])
        if not 0 < tail < len(clicks):
            continue
        encoded.event_ids[row, tail, GAP] = 0
        own = clicks[tail - 1].dwell_ms
        if own is None or own < 0:
            encoded.event_ids[row, tail - 1, DWELL] = 0
            encoded.dwell_z[row, tail - 1] = 0
