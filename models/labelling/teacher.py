"""The interface of a teacher: it makes a taxonomy and labels sessions with it, for distillation.

A teacher sees what a session shows, never what the simulator knows about it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamer.models.arrays import Float32, Int64
from streamer.models.taxonomy import Taxonomy
from streamer.schemas.click import Session

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
class Estimate:
    """What a language model will cost, before it costs anything."""

    requests: int = 0
    tokens: int = 0
    """Of questions and answers; where answers are asked again, it takes more."""
    shown: tuple[str, ...] = ()
    """Examples of what is sent, word for word."""


@dataclass(frozen=True)
class TeacherOutput:
    taxonomy: Taxonomy
    train: SoftLabels
    validation: SoftLabels
    notes: dict[str, float | int | str]
    """How the taxonomy was made; for the manifest."""
    failures: tuple[str, ...] = ()
    """What of it is too poor to learn from without somebody looking at it first."""


class Teacher(Protocol):
    """Makes a taxonomy from the training split and labels sessions of both splits with it."""

    @property
    def name(self) -> str: ...

    def estimate(self, train: TeacherInput, validation: TeacherInput) -> Estimate:
        """What teaching will cost and send; asks nothing."""

    def teach(
        self, train: TeacherInput, validation: TeacherInput, previous: Taxonomy | None
    ) -> TeacherOutput: ...
