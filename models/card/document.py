"""The card as plain data, from which the page, the text and the JSON are written."""

from __future__ import annotations

from typing import Any

import msgspec

NOT_MEASURED = "not measured"


class Claim(msgspec.Struct, frozen=True):
    text: str
    value: str
    """`NOT_MEASURED` where there is no evidence."""
    evidence: str | None
    """Name of the file; None where there is none."""
    at: str | None
    """Where in it: keys divided by slashes."""
    figure: Any = None
    """As it stands there."""

    @property
    def measured(self) -> bool:
        return self.evidence is not None


class CardTable(msgspec.Struct, frozen=True):
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    evidence: str
    at: str


class Plot(msgspec.Struct, frozen=True):
    title: str
    png: bytes


class Section(msgspec.Struct, frozen=True):
    id: str
    title: str
    note: str = ""
    claims: tuple[Claim, ...] = ()
    tables: tuple[CardTable, ...] = ()
    plots: tuple[Plot, ...] = ()


class Answer(msgspec.Struct, frozen=True):
    """One of the questions that a card answers first."""

    question: str
    points: tuple[str, ...]
    section: str
    """Id of the section with the evidence."""


class Requirement(msgspec.Struct, frozen=True):
    """What a text asks, and where the card answers."""

    place: str
    asks: str
    sections: tuple[str, ...]
    measured: int
    """Claims of these sections that have evidence."""
    claims: int
    operator: str
    """What whoever runs the model has to do."""


class Framework(msgspec.Struct, frozen=True):
    name: str
    title: str
    note: str
    requirements: tuple[Requirement, ...]


class Source(msgspec.Struct, frozen=True):
    name: str
    path: str
    sha256: str


class Card(msgspec.Struct, frozen=True):
    model_version: str
    summary: tuple[Answer, ...]
    sections: tuple[Section, ...]
    frameworks: tuple[Framework, ...]
    evidence: tuple[Source, ...]
