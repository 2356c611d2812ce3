"""Fields of a click that a recipe adds to those that every tokenizer has: price, title, campaign, properties.

A field is categorical (a vocabulary and a hashed tail), a number (buckets by quantiles of the training split)
or a text (hashed words). Each has one or several columns of ids; id 0 is missing in all of them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import isfinite
from typing import Any, Final, Literal, TypeGuard, get_args

import numpy as np

from streamer.models.arrays import Int32
from streamer.models.queries import words_of
from streamer.models.vocabulary import Vocabulary, stable_hash
from streamer.schemas.click import Click
from streamer.schemas.extras import is_extra

PRICE: Final = "price"
"""The one field of a click's own that a recipe may add; the others have a vocabulary anyway."""
WORDS_KEPT: Final = 8
"""Columns of a text: its first distinct words."""
MAX_HASHED: Final = 1 << 16
MAX_BUCKETS: Final = 256
_CACHED: Final = 1 << 16
_MOST_NUMBERS: Final = 1 << 18
"""Distinct numbers that are counted to six digits; beyond, to three."""

Kind = Literal["categorical", "number", "text"]
KINDS: Final[tuple[str, ...]] = get_args(Kind)
_HASHED: Final = {"categorical": 256, "text": 2048}
_BUCKETS: Final = 16
Value = str | float | None
Values = tuple[Value, ...]


class FieldError(ValueError):
    """A field that can't be learnt; the text names it and says what was expected."""


@dataclass(frozen=True)
class FieldSpec:
    """A field as a recipe asks for it."""

    name: str
    kind: Kind
    hashed: int = 0
    """Ids for values or words that have none of their own; 0: of a number."""
    buckets: int = 0
    """Of a number."""

    @classmethod
    def of(cls, name: str, table: Mapping[str, Any]) -> FieldSpec:
        """From a table of a recipe file. Raises FieldError."""
        kind = table.get("kind")
        if name != PRICE and not is_extra(name):
            raise FieldError(
                f"fields.{name}: is no field of a click; expected {PRICE}, page_title, utm_source or its"
                " like, or properties.NAME"
            )
        if kind not in KINDS or (name == PRICE and kind != "number"):
            expected = "number" if name == PRICE else ", ".join(KINDS)
            raise FieldError(f"fields.{name}.kind: is {kind!r}; expected {expected}")
        allowed = {"kind", "buckets" if kind == "number" else "hashed"}
        for key in table:
            if key not in allowed:
                raise FieldError(
                    f"fields.{name}.{key}: is no key of a {kind}; expected {', '.join(sorted(allowed))}"
                )
        if kind == "number":
            return cls(name, kind, buckets=_whole(f"fields.{name}.buckets", table, _BUCKETS, 2, MAX_BUCKETS))
        return cls(name, kind, _whole(f"fields.{name}.hashed", table, _HASHED[kind], 1, MAX_HASHED))


def _whole(key: str, table: Mapping[str, Any], default: int, least: int, most: int) -> int:
    value = table.get(key.rpartition(".")[2], default)
    if not is_whole(value, least, most):
        raise FieldError(f"{key}: is {value!r}; expected a whole number from {least} to {most}")
    return value


def is_whole(value: object, least: int, most: int) -> TypeGuard[int]:
    """Whether it is a whole number of that range."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def checked_tail(field: str, value: Any) -> int:
    """The size of a hashed tail. Raises FieldError."""
    return _whole(f"hashed.{field}", {field: value}, 0, 1, MAX_HASHED)


class Categorical:
    """Values learnt in training, and a hashed tail."""

    kind = "categorical"
    columns = 1

    def __init__(self, name: str, vocabulary: Vocabulary) -> None:
        self.name, self.vocabulary = name, vocabulary
        self.size = vocabulary.size

    def ids(self, value: Value) -> tuple[int, ...]:
        return (self.vocabulary.id_of(value if isinstance(value, str) else None),)

    def document(self) -> dict[str, Any]:
        return {"hashed": self.vocabulary.hashed, "values": list(self.vocabulary.values)}


class Number:
    """Buckets between edges: id 1 below the first, then one more for each edge that a number isn't below."""

    kind = "number"
    columns = 1

    def __init__(self, name: str, edges: Sequence[float]) -> None:
        self.name, self.edges = name, tuple(edges)
        self.size = 2 + len(self.edges)

    @classmethod
    def learn(cls, name: str, counts: Mapping[float, int], buckets: int) -> Number:
        """Edges at the quantiles, each once."""
        numbers = sorted(counts)
        reached = list(accumulate(counts[number] for number in numbers))
        places = (bisect_right(reached, reached[-1] * each // buckets) for each in range(1, buckets))
        return cls(name, sorted({numbers[place] for place in places} - {numbers[0]}))

    def ids(self, value: Value) -> tuple[int, ...]:
        number = number_in(value)
        return (0 if number is None else 1 + bisect_right(self.edges, number),)

    def document(self) -> dict[str, Any]:
        return {"edges": list(self.edges)}


class Words:
    """The first distinct words of a text, hashed; no text is kept."""

    kind = "text"
    columns = WORDS_KEPT

    def __init__(self, name: str, hashed: int) -> None:
        self.name, self.hashed = name, hashed
        self.size = 1 + hashed

    def ids(self, value: Value) -> tuple[int, ...]:
        words = words_of(value) if isinstance(value, str) else []
        found = list(dict.fromkeys(1 + stable_hash(word) % self.hashed for word in words))[:WORDS_KEPT]
        return (*found, *[0] * (WORDS_KEPT - len(found)))

    def document(self) -> dict[str, Any]:
        return {"hashed": self.hashed}


ExtraField = Categorical | Number | Words


def number_in(value: Value) -> float | None:
    """The number that a value is or that its text says; None for any other."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return value if value is not None and isfinite(value) else None


class ExtraFields(dict[Values, int]):
    """All of a tokenizer; remembers the rows of ids of the values seen."""

    def __init__(self, fields: Sequence[ExtraField] = ()) -> None:
        super().__init__()
        self.fields = tuple(fields)
        self.names = tuple(field.name for field in self.fields)
        self.columns = sum(field.columns for field in self.fields)
        self.ids = np.zeros((256, self.columns), np.int32)

    def __missing__(self, values: Values) -> int:
        row = len(self)
        if row == len(self.ids):
            self.ids = np.concatenate([self.ids, np.zeros_like(self.ids)])
        found = (field.ids(value) for field, value in zip(self.fields, values, strict=True))
        self.ids[row] = [id for ids in found for id in ids]
        self[values] = row
        return row

    def row_of(self, click: Click) -> int:
        """Of `ids`; it holds until `make_room`."""
        return self[values_of(click, self.names)]

    def make_room(self) -> None:
        if len(self) > _CACHED:
            self.clear()

    def ids_of(self, clicks: Sequence[Click]) -> Int32:
        """[C, columns]"""
        rows = np.fromiter(map(self.row_of, clicks), np.int64, len(clicks))
        return self.ids[rows]

    def documents(self) -> list[dict[str, Any]]:
        return [{"name": each.name, "kind": each.kind, **each.document()} for each in self.fields]


def values_of(click: Click, names: Sequence[str]) -> Values:
    """Of these fields; None where the click has none."""
    extras = click.extras or {}
    return tuple(click.price if name == PRICE else extras.get(name) for name in names)


class FieldCounts:
    """How often each value of each field occurs, as far as its kind needs that."""

    def __init__(self, specs: Sequence[FieldSpec], most_values: int) -> None:
        self._specs = specs
        self._names = [spec.name for spec in specs]
        self._most = most_values
        self._seen = [0] * len(specs)
        self._texts: list[Counter[str]] = [Counter() for _ in specs]
        self._numbers: list[Counter[float]] = [Counter() for _ in specs]
        self._digits = [6] * len(specs)

    def add(self, clicks: Iterable[Click]) -> None:
        for values, count in Counter(values_of(click, self._names) for click in clicks).items():
            for place, value in enumerate(values):
                self._count(place, value, count)

    def _count(self, place: int, value: Value, count: int) -> None:
        kind = self._specs[place].kind
        number = number_in(value) if kind == "number" else None
        if value is None or (kind == "number" and number is None):
            return
        self._seen[place] += count
        if number is not None:
            numbers = self._numbers[place]
            numbers[_rounded(number, self._digits[place])] += count
            if len(numbers) > _MOST_NUMBERS and self._digits[place] > 3:
                self._digits[place] = 3
                self._numbers[place] = Counter()
                for each, times in numbers.items():
                    self._numbers[place][_rounded(each, 3)] += times
        elif kind == "categorical" and isinstance(value, str):
            self._texts[place][value] += count
            if len(self._texts[place]) > self._most:
                self._texts[place] = Counter(dict(self._texts[place].most_common(self._most // 2)))

    def learnt(self, min_count: int, max_vocabulary: int) -> list[ExtraField]:
        """Raises FieldError for a field that no click has."""
        missing = [spec for spec, seen in zip(self._specs, self._seen, strict=True) if not seen]
        if missing:
            what = "number" if missing[0].kind == "number" else "value"
            raise FieldError(
                f"fields.{missing[0].name}: no click of the training split has a {what} there; expected some"
                " sessions to have it (clicks.keep says what is kept of a click)"
            )
        return [self._learnt(place, min_count, max_vocabulary) for place in range(len(self._specs))]

    def _learnt(self, place: int, min_count: int, max_vocabulary: int) -> ExtraField:
        spec = self._specs[place]
        if spec.kind == "number":
            return Number.learn(spec.name, self._numbers[place], spec.buckets)
        if spec.kind == "text":
            return Words(spec.name, spec.hashed)
        learnt = Vocabulary.learn(self._texts[place], min_count, max_vocabulary, spec.hashed)
        return Categorical(spec.name, learnt)


def _rounded(number: float, digits: int) -> float:
    return float(f"{number:.{digits}g}")


def from_documents(documents: Any) -> ExtraFields:
    """What `documents` gave. Raises ValueError for anything else."""
    if not isinstance(documents, list) or not all(isinstance(each, dict) for each in documents):
        raise ValueError("tokenizer.fields must be a list of objects")
    fields = [_from_document(each, f"tokenizer.fields[{at}]") for at, each in enumerate(documents)]
    names = [field.name for field in fields]
    if len(set(names)) < len(names):
        raise ValueError("tokenizer.fields lists a field twice")
    return ExtraFields(fields)


def _from_document(document: Mapping[str, Any], key: str) -> ExtraField:
    name, kind = document.get("name"), document.get("kind")
    if not isinstance(name, str) or not (name == PRICE or is_extra(name)):
        raise ValueError(f"{key}.name must be a field of a click")
    if kind == "number":
        edges = document.get("edges")
        if not isinstance(edges, list) or len(edges) >= MAX_BUCKETS or not _are_edges(edges):
            raise ValueError(f"{key}.edges must be fewer than {MAX_BUCKETS} numbers in order")
        return Number(name, edges)
    hashed = document.get("hashed")
    if not is_whole(hashed, 1, MAX_HASHED):
        raise ValueError(f"{key}.hashed must be a whole number from 1 to {MAX_HASHED}")
    if kind == "text":
        return Words(name, hashed)
    values = document.get("values")
    if kind != "categorical" or not isinstance(values, list) or not all(map(_is_value, values)):
        raise ValueError(f"{key} must be a number, a text, or categorical with a list of non-empty strings")
    return Categorical(name, Vocabulary(values, hashed))


def _are_edges(edges: list[Any]) -> bool:
    numbers = [each for each in edges if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(numbers) < len(edges) or not all(-1e300 < each < 1e300 for each in numbers):
        return False
    return all(low < high for low, high in pairwise(numbers))


def _is_value(value: object) -> bool:
    return isinstance(value, str) and bool(value)
