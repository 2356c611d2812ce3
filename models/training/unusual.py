"""Unusual sessions to learn from: real ones, some of whose clicks were exchanged for others.

Nobody has sessions of intents that don't exist yet. What they would do is stay on pages that others only pass
by; so clicks are drawn evenly over pages, however rarely these are visited, and from few pages a session.
Some pages are such as nobody has seen. The head learns from these sessions what surprise looks like in an
embedding, so that serving needs nothing else.

Compare D. Hendrycks et al., Deep Anomaly Detection with Outlier Exposure, ICLR 2019.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from models.training.surprise import MIN_SESSIONS, ItemModel, page_of
from models.training.teacher import Float32, SoftLabels
from schemas.click import Click, Session

PAGES = (1, 2, 3)
"""How many pages a session's exchanged clicks come from; every session is made unusual with each number."""
UNSEEN_SHARE = 0.1
"""Of the pages drawn."""
MOST_EXCHANGED = 0.9
"""Up to this share of a session's clicks, each share as often as any other."""
MOST_SESSIONS = 10_000
_NAMED = ("page_type", "element", "category", "product_id", "search_query")
_EXCHANGED = (*_NAMED, "path", "event_type")

Embed = Callable[[Sequence[Session]], Float32]


@dataclass(frozen=True)
class Surprising:
    """Real and unusual sessions: embeddings [N, D], and how surprising each is [N]; the real ones first."""

    embeddings: Float32
    surprise: Float32
    real: int


def surprising(
    sessions: Sequence[Session], labels: SoftLabels, embed: Embed, rng: np.random.Generator
) -> Surprising:
    """Of training sessions; `labels.rows` are places among them."""
    model = ItemModel.fit(sessions, labels)
    chosen = np.sort(rng.permutation(len(sessions))[:MOST_SESSIONS])
    real = [sessions[row] for row in chosen.tolist()]
    shelves = shelves_of(sessions)
    made = [each for pages in PAGES for each in exchanged(real, shelves, pages, rng)]
    every = [*real, *made]
    return Surprising(embed(every), model.surprise(every), len(real))


def shelves_of(sessions: Sequence[Session]) -> list[list[Click]]:
    """Clicks by page, or by query; those of fewer than MIN_SESSIONS clicks are left out."""
    by_page: dict[tuple[bool, str], list[Click]] = defaultdict(list)
    for session in sessions:
        for click in session.clicks:
            query = click.search_query
            by_page[bool(query), query.casefold() if query else page_of(click)].append(click)
    return [clicks for clicks in by_page.values() if len(clicks) >= MIN_SESSIONS]


def exchanged(
    sessions: Sequence[Session], shelves: Sequence[Sequence[Click]], pages: int, rng: np.random.Generator
) -> list[Session]:
    """Times and everything else about the visit stay. None where there are no shelves."""
    if not shelves:
        return []
    return [_exchanged(session, shelves, pages, rng) for session in sessions]


def _exchanged(
    session: Session, shelves: Sequence[Sequence[Click]], pages: int, rng: np.random.Generator
) -> Session:
    drawn = [_shelf(shelves, rng) for _ in range(pages)]
    hit = rng.random(len(session.clicks)) < rng.uniform(0.0, MOST_EXCHANGED)
    clicks = list(session.clicks)
    for at in np.flatnonzero(hit).tolist():
        shelf = drawn[int(rng.integers(pages))]
        donor = shelf[int(rng.integers(len(shelf)))]
        clicks[at] = msgspec.structs.replace(
            clicks[at], **{name: getattr(donor, name) for name in _EXCHANGED}
        )
    return msgspec.structs.replace(session, clicks=clicks)


def _shelf(shelves: Sequence[Sequence[Click]], rng: np.random.Generator) -> Sequence[Click]:
    shelf = shelves[int(rng.integers(len(shelves)))]
    if rng.random() >= UNSEEN_SHARE:
        return shelf
    return [_unseen(shelf[0], f"unseen{rng.integers(1 << 32):x}")]


def _unseen(click: Click, name: str) -> Click:
    """Whatever the click names, under a name that nobody has seen; a path stays as deep as it is."""
    named = {field: name for field in _NAMED if getattr(click, field)}
    path = click.path and "".join(f"/{name}" for part in click.path.split("/") if part)
    return msgspec.structs.replace(click, **named, path=path or click.path)
