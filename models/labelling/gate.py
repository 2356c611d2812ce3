"""What the labels of a language model must reach before anything learns from them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from streamer.schemas.click import Session

_IS_PATH = re.compile(r"(^|\s)/\w|\w/\w|\\|://|\.html?\b")
_LOOKS_LIKE_AN_ID = re.compile(r"\d|[_-]")
_TOKEN = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Bounds:
    min_kappa: float = 0.4
    """Of the agreement of answers to the same question; below it is poor or fair (Landis and Koch 1977)."""
    min_evidence_precision: float = 0.8
    """Of what the model gave as evidence, the share that stands in the session."""
    max_without_vote: float = 0.2
    """Share of the sessions, or of the clusters, without one usable answer."""


DEFAULT_BOUNDS = Bounds()


def failures(
    kappa: float | None,
    precision: float | None,
    without: float | None,
    labels: Sequence[str],
    bounds: Bounds,
) -> list[str]:
    """What is beyond the bounds, each with its setting; None is what wasn't measured.

    `labels` are those that carry an id or a path.
    """
    found = []
    if kappa is not None and kappa < bounds.min_kappa:
        found.append(f"kappa is {kappa}, below llm.min_kappa {bounds.min_kappa}")
    if precision is not None and precision < bounds.min_evidence_precision:
        least = bounds.min_evidence_precision
        found.append(f"evidence precision is {precision}, below llm.min_evidence_precision {least}")
    if without is not None and without > bounds.max_without_vote:
        most = bounds.max_without_vote
        found.append(f"the share without a usable vote is {without}, above llm.max_without_vote {most}")
    if labels:
        found.append(f"{len(labels)} labels carry a product id or a path, as {labels[0]!r}")
    return found


def labels_with_ids(labels: Iterable[str], sessions: Iterable[Session]) -> list[str]:
    """Labels that say a path or a product id of the sessions: no names for people."""
    products = {
        click.product_id.casefold()
        for session in sessions
        for click in session.clicks
        if click.product_id and _LOOKS_LIKE_AN_ID.search(click.product_id)
    }
    return [label for label in labels if carries_id_or_path(label, products)]


def carries_id_or_path(label: str, products: Collection[str]) -> bool:
    """`products` in lower case."""
    tokens = _TOKEN.findall(label.casefold())
    return _IS_PATH.search(label) is not None or any(token in products for token in tokens)
