"""Claims of a card: what each says, and where in which file its value stands."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files as resources
from typing import Any

from msgspec.structs import replace

from streamer.models.card.document import NOT_MEASURED, Claim
from streamer.models.card.evidence import Evidence
from streamer.models.evaluation.report_tables import number

Files = Mapping[str, Evidence]
"""Those that are there, by name."""
MANIFEST, EVALUATION, SLICES, DRIFT, ERASURE, STATEMENTS = (
    "manifest",
    "evaluation",
    "slices",
    "drift",
    "erasure",
    "statements",
)
DECLARED = "declared"


@dataclass(frozen=True, slots=True)
class Asked:
    text: str
    file: str
    at: str
    form: str = ""
    """Of numbers."""


def claim(files: Files, asked: Asked) -> Claim:
    """Not measured where the file or the place is missing, or nothing stands there."""
    file = files.get(asked.file)
    figure = None if file is None else file.at(asked.at)
    shown = _shown(figure, asked.form)
    if file is None or shown is None:
        return Claim(asked.text, NOT_MEASURED, None, None)
    return Claim(asked.text, shown, asked.file, file.prefix + asked.at, figure)


def claims(files: Files, group: str) -> tuple[Claim, ...]:
    """Those of a group in claims.toml."""
    document = tomllib.loads((resources("streamer.models.card") / "claims.toml").read_text(encoding="utf-8"))
    return tuple(claim(files, Asked(**each)) for each in document[group])


def computed(files: Files, asked: Asked, value: Callable[[Any], str]) -> Claim:
    """As `claim`, of a value that is worked out from what stands there."""
    found = claim(files, asked)
    return replace(found, value=value(found.figure)) if found.measured else found


def declared(files: Files, key: str, value: str = DECLARED) -> tuple[Claim, ...]:
    """What people say, one claim each."""
    return tuple(Claim(text, value, STATEMENTS, key) for text in files[STATEMENTS].document[key])


def _shown(figure: Any, form: str) -> str | None:
    if figure is None or figure == "":
        return None
    if isinstance(figure, Mapping):
        return number(figure, form) if figure.get("value") is not None else ""
    if isinstance(figure, list):
        return " to ".join(format(each, form) if form else str(each) for each in figure)
    return format(figure, form) if form and not isinstance(figure, str) else str(figure)
