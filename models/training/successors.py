"""Which intent of a new taxonomy continues which of the previous one, so that ids live on."""

from __future__ import annotations

from models.taxonomy import Taxonomy

_SAME_TERMS = 0.34
"""Shared terms over all terms from which a new intent is taken to continue an old one."""


def successors(new: Taxonomy, previous: Taxonomy) -> dict[str, str]:
    """New ids to the previous ids they continue, by label or shared terms, the most alike first, one to one.

    A parent continues the one that most of its intents belonged to.
    """
    pairs = sorted((-_alike(a.terms, b.terms), a.id, b.id) for a in new.intents for b in previous.intents)
    found = _same_labels(new, previous)
    for alike, new_id, old_id in pairs:
        if -alike >= _SAME_TERMS and new_id not in found and old_id not in found.values():
            found[new_id] = old_id
    old_parent = {intent.id: intent.parent for intent in previous.intents}
    for parent in new.parents:
        votes = [old_parent[found[i.id]] for i in new.intents if i.parent == parent.id and i.id in found]
        best = max(sorted(set(votes)), key=votes.count, default=None)
        if best is not None and best not in found.values():
            found[parent.id] = best
    return found


def _same_labels(new: Taxonomy, previous: Taxonomy) -> dict[str, str]:
    by_label = {intent.label.casefold(): intent.id for intent in previous.intents}
    same: dict[str, str] = {}
    for intent in new.intents:
        old = by_label.get(intent.label.casefold())
        if old is not None and old not in same.values():
            same[intent.id] = old
    return same


def _alike(a: tuple[str, ...], b: tuple[str, ...]) -> float:
    union = set(a) | set(b)
    return len(set(a) & set(b)) / len(union) if union else 0.0
