"""Teacher labels carried over to a taxonomy that people have edited.

Names, descriptions, parents and the order of intents may change freely. An intent that was removed must be
`retired`, or `mapping` must say which one continues it. A new one needs sessions labelled with it, or is part
of an intent that was split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from streamer.models.arrays import Int64
from streamer.models.labelling.teacher import SoftLabels
from streamer.models.taxonomy import Taxonomy


class EditError(Exception):
    """The edited taxonomy and the labels don't go together; the text says what to do."""


class Division(NamedTuple):
    """An intent that was split in two, and to which part each labelled session belongs."""

    whole: str
    parts: tuple[str, str]
    train: Int64
    """[M]: a place in `parts` for each labelled session of the training split, whatever its label"""
    validation: Int64

    def counts_in(self, taxonomy: Taxonomy) -> bool:
        """Whether the taxonomy was split so; people may have taken it back."""
        known = {each.id for each in taxonomy.intents}
        once = {*taxonomy.retired, *(mapped.previous for mapped in taxonomy.mapping)}
        return self.whole not in known and set(self.parts) <= known | once


class GivenLabels(NamedTuple):
    """What the teacher gave: labels of both splits over the intents `ids` of a version of the taxonomy."""

    ids: tuple[str, ...]
    version: str
    train: SoftLabels
    validation: SoftLabels

    def over(self, taxonomy: Taxonomy, divisions: Sequence[Division] = ()) -> tuple[SoftLabels, SoftLabels]:
        """Over the intents of `taxonomy`.

        Sessions that only had removed intents are left out. Raises EditError.
        """
        ids, splits = self.ids, [self.train, self.validation]
        for division in divisions:
            if division.whole in ids and division.counts_in(taxonomy):
                column = ids.index(division.whole)
                parts = (division.train, division.validation)
                splits = [_divided(*each, column) for each in zip(splits, parts, strict=True)]
                ids = (*ids[:column], *ids[column + 1 :], *division.parts)
        train, validation = (aligned(each, ids, taxonomy, self.version) for each in splits)
        return train, validation


def _divided(labels: SoftLabels, part: Int64, column: int) -> SoftLabels:
    """The column taken out, and at the end one for each of its two parts."""
    whole = labels.probabilities[:, column]
    new = np.zeros((len(whole), 2), np.float32)
    new[np.arange(len(whole)), part] = whole
    others = np.delete(labels.probabilities, column, axis=1)
    return SoftLabels(labels.rows, np.concatenate([others, new], axis=1))


def aligned(labels: SoftLabels, ids: Sequence[str], taxonomy: Taxonomy, version: str) -> SoftLabels:
    """The labels over the intents of `taxonomy`; they were given over the intents `ids` of version `version`.

    Sessions that only had removed intents are left out. Raises EditError.
    """
    target = {intent.id: k for k, intent in enumerate(taxonomy.intents)}
    continued = {old: _continued(old, taxonomy, target) for old in ids}
    _check_new(set(target) - {new for new in continued.values() if new}, version, taxonomy, ids)
    mass = np.zeros((len(labels.rows), len(target)), np.float32)
    for k, old in enumerate(ids):
        new = continued[old]
        if new is not None:
            mass[:, target[new]] += labels.probabilities[:, k]
    left = mass.sum(1) > 1e-6
    if not left.any():
        raise EditError("no labelled session has one of the intents that are left in taxonomy.json")
    return SoftLabels(labels.rows[left], mass[left] / mass[left].sum(1, keepdims=True))


def _continued(old: str, taxonomy: Taxonomy, target: dict[str, int]) -> str | None:
    if old in target:
        return old
    for mapped in taxonomy.mapping:
        if mapped.previous == old and (mapped.current is None or mapped.current in target):
            return mapped.current
    if old in taxonomy.retired:
        return None
    raise EditError(
        f"sessions are labelled with the intent {old!r}, which taxonomy.json lacks: expected it among"
        " `retired`, or an entry of `mapping` that says which intent continues it; ids are never changed"
    )


def _check_new(unknown: set[str], version: str, taxonomy: Taxonomy, ids: Sequence[str]) -> None:
    if unknown:
        raise EditError(
            f"no session is labelled with the intent {min(unknown)!r} of taxonomy.json: label with it by"
            " `streamer model taxonomy --teacher llm --use FILE`"
        )
    if {intent.id for intent in taxonomy.intents} != set(ids) and taxonomy.version == version:
        raise EditError(
            f"taxonomy.json has other intents than version {version!r} was made with: give it a new `version`"
        )
