"""A recipe file (TOML): fields of a click to learn from besides, widths of hashed tails, and what pretraining
predicts, how often and with which weights.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from streamer.errors import UsageError

MOST_WEIGHT = 1000.0
"""Of an objective; far more would be a slip, and in the end no number."""
MOST_EVERY = 1000
_TABLES = ("fields", "hashed", "weights")


class RecipeFields(NamedTuple):
    fields: dict[str, dict[str, Any]]
    """Their tables by name, checked."""
    hashed: dict[str, int]
    weights: dict[str, float]
    rest_every: int | None
    events_of_pages: bool | None
    """As in `TrainConfig`; None: the usual."""


def read_recipe_file(file: Path) -> RecipeFields:
    """Raises UsageError, which names the key, the value and what was expected."""
    from streamer.models.extra_fields import FieldError, FieldSpec, checked_tail
    from streamer.models.tokenizer import VOCABULARIES
    from streamer.models.training.config import OBJECTIVES

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; expected a recipe in TOML") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: is not UTF-8; expected a recipe in TOML") from None
    except ValueError as error:
        raise UsageError(f"{file}: is not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{file}: is nested too deeply; expected a recipe in TOML") from None
    _check_keys(file, "", content, RecipeFields._fields)
    fields, hashed, weights = (_table(file, key, content.get(key, {})) for key in _TABLES)
    _check_keys(file, "hashed.", hashed, VOCABULARIES)
    _check_keys(file, "weights.", weights, OBJECTIVES)
    try:
        for name, table in fields.items():
            FieldSpec.of(name, _table(file, f"fields.{name}", table))
        for name, size in hashed.items():
            checked_tail(name, size)
    except FieldError as error:
        raise UsageError(f"{file}: {error}") from None
    return RecipeFields(
        fields,
        hashed,
        {name: _weight(file, name, value) for name, value in weights.items()},
        _every(file, content.get("rest_every")),
        _flag(file, "events_of_pages", content.get("events_of_pages")),
    )


def _weight(file: Path, name: str, value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= MOST_WEIGHT:
        raise UsageError(
            f"{file}: weights.{name}: is {value!r:.40}; expected a number from 0 to {MOST_WEIGHT:g}"
        )
    return float(value)


def _every(file: Path, value: Any) -> int | None:
    from streamer.models.extra_fields import is_whole

    if value is not None and not is_whole(value, 1, MOST_EVERY):
        raise UsageError(
            f"{file}: rest_every: is {value!r:.40}; expected a whole number from 1 to {MOST_EVERY}"
        )
    return value


def _flag(file: Path, name: str, value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise UsageError(f"{file}: {name}: is {value!r:.40}; expected true or false")
    return value


def _table(file: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{file}: {key}: is {value!r}; expected a table")
    return value


def _check_keys(file: Path, prefix: str, table: Mapping[str, Any], known: Collection[str]) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{file}: {prefix}{key}: unknown key; expected one of {', '.join(known)}")
