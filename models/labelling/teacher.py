"""The interface of a teacher: it makes a taxonomy and labels sessions with it, for distillation.

A teacher sees what a session shows, never what the simulator knows about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from models.arrays import Float32, Int64
from models.taxonomy import Taxonomy
from schemas.click import Session

OTHER = "other"
"""The vote that none of the taxonomy's intents fits."""
Vote = tuple[str, ...]
"""One or two ids of intents, the stronger first, or `(OTHER,)`."""


@dataclass(frozen=True)
class TeacherInput:
    """Sessions of one split, with their embeddings [N, D]."""

    sessions: Sequence[Session]
    embeddings: Float32


@dataclass(frozen=True)
class SoftLabels:
    """Labels of some sessions of a split: `rows` [M] and for each a distribution over K intents [M, K]."""

    rows: Int64
    probabilities: Float32


@dataclass(frozen=True)
class TeacherOutput:
    taxonomy: Taxonomy
    train: SoftLabels
    validation: SoftLabels
    notes: dict[str, float | int | str]
    """How the taxonomy was made; for the manifest."""


class Teacher(Protocol):
    """Makes a taxonomy from the training split and labels sessions of both splits with it."""

    @property
    def name(self) -> str: ...

    def teach(
        self, train: TeacherInput, validation: TeacherInput, previous: Taxonomy | None
    ) -> TeacherOutput: ...
