"""The tokenizer: sessions in, padded arrays per length bucket out; the same file trains and serves.

docs/tokenizer.md defines it formally. A token depends on nothing but the session and this file: not on
the batch, the machine or Python's hash seed. Vocabularies are learnt on the training split only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Self

import numpy as np

from streamer.models.arrays import Float64, Int32, Int64
from streamer.models.encoded import LENGTH_BUCKETS, Encoded, Flat, bucketed
from streamer.models.extra_fields import (
    MAX_HASHED,
    ExtraFields,
    FieldCounts,
    FieldSpec,
    from_documents,
    is_whole,
)
from streamer.models.fields import (
    EVENT_FIELDS,
    HOUR_IDS,
    LEARNT_FIELDS,
    SESSION_FIELDS,
    ClickValues,
    device_and_referrer,
    hour_id,
    learnt_values,
    values_of,
)
from streamer.models.queries import QUERY_GRAMS, QUERY_SLOTS, query_ids
from streamer.models.timing import TIME_IDS, durations, log_seconds, standardized, time_bucket
from streamer.models.vocabulary import OOV_BUCKETS, Vocabulary
from streamer.schemas.build import IS_COMPILED
from streamer.schemas.click import KEPT_CLICKS, Click, Session

if IS_COMPILED:
    from streamer.models import tokens

TOKENIZER_VERSION = 1
WITH_FIELDS_VERSION = 2
"""Of a file that has fields or wider tails of its own, which earlier releases can't read."""
VOCABULARIES = (*LEARNT_FIELDS, "device", "referrer")
_VERSIONS = (TOKENIZER_VERSION, WITH_FIELDS_VERSION)
_CACHED = 1 << 16
_AT_ONCE = 4096
"""Sessions that are held while a tokenizer is fitted."""
_MOST_VALUES = 1 << 21
"""Distinct values of a field that are counted; beyond, only the more frequent half is kept, and a value that
comes again counts from then on. Hundreds of times as many as a vocabulary has."""

_query = attrgetter("search_query")


class Tokenizer:
    """Immutable but for its caches."""

    def __init__(
        self,
        vocabularies: Mapping[str, Vocabulary],
        dwell_mean: float,
        dwell_std: float,
        extras: ExtraFields | None = None,
    ) -> None:
        self.vocabularies = {name: vocabularies[name] for name in VOCABULARIES}
        self.dwell_mean = dwell_mean
        self.dwell_std = dwell_std
        self._rows = _RowCache([vocabularies[name] for name in LEARNT_FIELDS])
        self._grams = _GramCache()
        self.extras = ExtraFields() if extras is None else extras
        self._compiled: tokens.Tokens | None = None
        if IS_COMPILED:
            ids = vocabularies["device"].id_of, vocabularies["referrer"].id_of
            self._compiled = tokens.Tokens(self._rows, self._grams, *ids, self.extras)

    @classmethod
    def fit(
        cls,
        sessions: Iterable[Session],
        min_count: int = 10,
        max_vocabulary: int = 5000,
        fields: Sequence[FieldSpec] = (),
        hashed: Mapping[str, int] | None = None,
    ) -> Self:
        """Learns from the sessions given, which must be the training split, in one pass that holds few of
        them. `fields` come besides; `hashed`: sizes of the tails of VOCABULARIES that aren't the usual.

        Raises ValueError on no session, FieldError for a field that none has.
        """
        counts, dwells, extras = _Counts(), _Moments(), FieldCounts(fields, _MOST_VALUES)
        with_clicks = (session for session in sessions if session.clicks)
        while some := list(islice(with_clicks, _AT_ONCE)):
            counts.add(some)
            clicks, lengths = _flattened(some)
            extras.add(clicks)
            dwell = durations(some, lengths, clicks)[0]
            dwells.add(log_seconds(dwell[dwell >= 0]).astype(np.float64))
        if not counts.sessions:
            raise ValueError("a tokenizer needs at least one session with clicks to learn from, found none")
        learnt = ExtraFields(extras.learnt(min_count, max_vocabulary))
        tails = hashed or {}
        vocabularies = {
            name: Vocabulary.learn(found, min_count, max_vocabulary, tails.get(name, OOV_BUCKETS))
            for name, found in counts.of_values().items()
        }
        return cls(vocabularies, round(dwells.mean, 6), round(max(dwells.std, 1e-3), 6), learnt)

    @property
    def event_sizes(self) -> list[int]:
        """Number of ids of each of EVENT_FIELDS, then of each extra field."""
        sizes = [self.vocabularies[name].size for name in LEARNT_FIELDS] + [TIME_IDS, TIME_IDS]
        return sizes + [field.size for field in self.extras.fields]

    @property
    def first_learnt(self) -> list[int]:
        """Of LEARNT_FIELDS: the first id of a value that was learnt."""
        return [self.vocabularies[name].first_learnt for name in LEARNT_FIELDS]

    @property
    def event_columns(self) -> list[int]:
        """Which field each column of a click's ids belongs to; those of a text come one after another."""
        own = len(EVENT_FIELDS)
        extra = [own + at for at, field in enumerate(self.extras.fields) for _ in range(field.columns)]
        return [*range(own), *extra]

    @property
    def session_sizes(self) -> list[int]:
        """Number of ids of each of SESSION_FIELDS."""
        return [self.vocabularies["device"].size, self.vocabularies["referrer"].size, HOUR_IDS]

    @property
    def sizes(self) -> dict[str, int]:
        """Number of ids of every field by its name."""
        names = (*EVENT_FIELDS, *self.extras.names, *SESSION_FIELDS)
        return dict(zip(names, self.event_sizes + self.session_sizes, strict=True))

    def encode(self, sessions: Sequence[Session]) -> list[Encoded]:
        """One `Encoded` per length bucket in use, shortest first. A session without clicks: ValueError."""
        if not sessions:
            return []
        self._rows.make_room()
        self._grams.make_room()
        self.extras.make_room()
        places = None if self._compiled is None else tokens.by_length(sessions, LENGTH_BUCKETS)
        if self._compiled is not None and places is not None:
            used = zip(LENGTH_BUCKETS, places, strict=True)
            return [self._filled(self._compiled, sessions, rows, width) for width, rows in used if rows]
        clicks, lengths = _flattened(sessions)
        times = durations(sessions, lengths, clicks)
        values = self._rows.ids_of(clicks)
        slots, queries = self._queries(lengths, clicks)
        flat = Flat(
            lengths=lengths,
            event_ids=np.concatenate((values, time_bucket(times).T, self.extras.ids_of(clicks)), axis=1),
            dwell_z=standardized(times[0], self.dwell_mean, self.dwell_std),
            query_slot=slots,
            query_ids=queries,
            session_ids=self._session_ids(sessions),
        )
        return bucketed(flat)

    def _filled(
        self, compiled: tokens.Tokens, sessions: Sequence[Session], rows: list[int], width: int
    ) -> Encoded:
        """The sessions at `rows`, all of one length bucket."""
        count = len(rows)
        event_ids = np.zeros((count, width, len(EVENT_FIELDS) + self.extras.columns), np.int32)
        dwell_ms = np.full((count, width), -1, np.int64)
        dwell_z = np.zeros((count, width), np.float32)
        query_slot = np.zeros((count, width), np.int32)
        query_ids = np.zeros((count, QUERY_SLOTS, QUERY_GRAMS), np.int32)
        session_ids = np.zeros((count, len(SESSION_FIELDS)), np.int32)
        lengths = np.zeros(count, np.int32)
        compiled.fill(
            sessions, rows, event_ids, dwell_ms, dwell_z, query_slot, query_ids, session_ids, lengths
        )
        np.log1p(dwell_z, out=dwell_z)
        tokens.standardize(dwell_z, dwell_ms, self.dwell_mean, self.dwell_std)
        return Encoded(
            np.array(rows, np.int64), event_ids, dwell_z, query_slot, query_ids, session_ids, lengths
        )

    def _session_ids(self, sessions: Sequence[Session]) -> Int32:
        device_id, referrer_id = self.vocabularies["device"].id_of, self.vocabularies["referrer"].id_of
        ids = []
        for session in sessions:
            device, referrer = device_and_referrer(session)
            ids.append((device_id(device), referrer_id(referrer), hour_id(session.started_at)))
        return np.array(ids, np.int32).reshape(-1, len(SESSION_FIELDS))

    def _queries(self, lengths: Int64, clicks: Sequence[Click]) -> tuple[Int32, Int32]:
        """Slots [C] and ids [N, QUERY_SLOTS, QUERY_GRAMS]: the last distinct queries get the slots."""
        slots = np.zeros(len(clicks), np.int32)
        ids = np.zeros((len(lengths), QUERY_SLOTS, QUERY_GRAMS), np.int32)
        asked = [(at, text) for at, text in enumerate(map(_query, clicks)) if text]
        if not asked:
            return slots, ids
        session_of = np.searchsorted(lengths.cumsum(), [at for at, _ in asked], side="right").tolist()
        rows = self._grams.rows_of([text for _, text in asked])
        slot_of: dict[int, int] = {}
        current = -1
        filled: list[tuple[int, int, int]] = []
        for i, (at, _), row in zip(reversed(session_of), reversed(asked), reversed(rows), strict=True):
            if i != current:
                slot_of, current = {}, i
            if row and row not in slot_of and len(slot_of) < QUERY_SLOTS:
                filled.append((i, len(slot_of), row))
                slot_of[row] = len(slot_of)
            slots[at] = 1 + slot_of.get(row, -1)
        if filled:
            of_session, place, row_of = np.array(filled).T
            ids[of_session, place] = self._grams.ids[row_of]
        return slots, ids

    def to_json(self) -> str:
        """Canonical: the same tokenizer always gives the same bytes."""
        document: dict[str, Any] = {
            "version": TOKENIZER_VERSION,
            "dwell_log_seconds": {"mean": self.dwell_mean, "std": self.dwell_std},
            "vocabularies": {name: list(v.values) for name, v in self.vocabularies.items()},
        }
        tails = {name: v.hashed for name, v in self.vocabularies.items() if v.hashed != OOV_BUCKETS}
        if tails or self.extras.fields:
            document |= {"version": WITH_FIELDS_VERSION, "hashed": tails, "fields": self.extras.documents()}
        return json.dumps(document, ensure_ascii=True, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises ValueError with a reason for anything that isn't a tokenizer of this version."""
        document = _checked(text)
        dwell = document["dwell_log_seconds"]
        tails, extras = document.get("hashed", {}), from_documents(document.get("fields", []))
        vocabularies = {
            name: Vocabulary(values, tails.get(name, OOV_BUCKETS))
            for name, values in document["vocabularies"].items()
        }
        return cls(vocabularies, float(dwell["mean"]), float(dwell["std"]), extras)


class _RowCache(dict[ClickValues, int]):
    """Ids of the clicks seen, one row each: sites have far fewer distinct clicks than clicks."""

    def __init__(self, vocabularies: Sequence[Vocabulary]) -> None:
        super().__init__()
        self._vocabularies = vocabularies
        self.ids = np.zeros((1024, len(vocabularies)), np.int32)

    def __missing__(self, values: ClickValues) -> int:
        row = len(self)
        if row == len(self.ids):
            self.ids = np.concatenate([self.ids, np.zeros_like(self.ids)])
        learnt = zip(self._vocabularies, learnt_values(values), strict=True)
        self.ids[row] = [vocabulary.id_of(value) for vocabulary, value in learnt]
        self[values] = row
        return row

    def make_room(self) -> None:
        if len(self) > _CACHED:
            self.clear()

    def ids_of(self, clicks: Sequence[Click]) -> Int32:
        """[C, LEARNT_FIELDS]"""
        rows = np.fromiter(map(self.__getitem__, map(values_of, clicks)), np.int64, len(clicks))
        return self.ids[rows]


class _GramCache(dict[str, int]):
    """Ids of the queries seen, one row for all that have the same; row 0 is of those without any."""

    def __init__(self) -> None:
        super().__init__()
        self._row_of = {b"": 0}
        """By the bytes of the ids: tuples of numbers would be tens of megabytes."""
        self.ids = np.zeros((256, QUERY_GRAMS), np.int32)

    def __missing__(self, query: str) -> int:
        grams = np.array(query_ids(query), np.int32)
        row = self._row_of.setdefault(grams.tobytes(), len(self._row_of))
        if row == len(self.ids):
            self.ids = np.concatenate([self.ids, np.zeros_like(self.ids)])
        self.ids[row, : len(grams)] = grams
        self[query] = row
        return row

    def make_room(self) -> None:
        """Rows that were given hold until then."""
        if len(self) > _CACHED:
            self.clear()
            self._row_of = {b"": 0}
            self.ids[:] = 0

    def rows_of(self, queries: Sequence[str]) -> list[int]:
        return list(map(self.__getitem__, queries))


def _flattened(sessions: Sequence[Session]) -> tuple[list[Click], Int64]:
    lengths = np.array([len(session.clicks) for session in sessions], np.int64)
    if lengths.min() < 1 or lengths.max() > KEPT_CLICKS:
        raise ValueError(f"a session keeps {lengths.min()} to {lengths.max()} clicks, not 1 to {KEPT_CLICKS}")
    return list(chain.from_iterable([session.clicks for session in sessions])), lengths


class _Counts:
    """How often each value of each field occurs."""

    def __init__(self) -> None:
        self.sessions = 0
        self._values: dict[str, Counter[str]] = {name: Counter() for name in VOCABULARIES}
        self._clicks: Counter[ClickValues] = Counter()

    def add(self, sessions: Sequence[Session]) -> None:
        self.sessions += len(sessions)
        for session in sessions:
            self._clicks.update(map(values_of, session.clicks))
            for name, value in zip(("device", "referrer"), device_and_referrer(session), strict=True):
                if value:
                    self._values[name][value] += 1
        if len(self._clicks) > _CACHED:
            self._spread()

    def of_values(self) -> dict[str, Counter[str]]:
        self._spread()
        return self._values

    def _spread(self) -> None:
        """From whole clicks to their fields: sites have far fewer distinct clicks than clicks."""
        for values, count in self._clicks.items():
            for name, value in zip(LEARNT_FIELDS, learnt_values(values), strict=True):
                if value:
                    self._values[name][value] += count
        self._clicks.clear()
        for name, counter in self._values.items():
            if len(counter) > _MOST_VALUES:
                self._values[name] = Counter(dict(counter.most_common(_MOST_VALUES // 2)))


@dataclass
class _Moments:
    """Mean and standard deviation of what comes piece by piece (Chan, Golub and LeVeque 1983)."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean."""

    def add(self, values: Float64) -> None:
        if not len(values):
            return
        count, mean = self.count + len(values), float(values.mean())
        apart = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum()) + apart**2 * self.count * len(values) / count
        self.mean += apart * len(values) / count
        self.count = count

    @property
    def std(self) -> float:
        """Of the population; 1 of nothing."""
        return float(np.sqrt(self.squares / self.count)) if self.count else 1.0


def _checked(text: str | bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("tokenizer is not valid JSON") from None
    if not isinstance(document, dict) or document.get("version") not in _VERSIONS:
        raise ValueError(f"tokenizer is not of version {' or '.join(map(str, _VERSIONS))}")
    if document["version"] == TOKENIZER_VERSION and document.keys() & {"hashed", "fields"}:
        raise ValueError(
            f"tokenizer of version {TOKENIZER_VERSION} has hashed or fields, which are of version"
            f" {WITH_FIELDS_VERSION}"
        )
    vocabularies = document.get("vocabularies")
    if not isinstance(vocabularies, dict) or set(vocabularies) != set(VOCABULARIES):
        raise ValueError(f"tokenizer.vocabularies must have exactly the fields {', '.join(VOCABULARIES)}")
    for name, values in vocabularies.items():
        if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
            raise ValueError(f"tokenizer.vocabularies.{name} must be a list of non-empty strings")
    tails = document.get("hashed", {})
    if not isinstance(tails, dict) or not all(name in VOCABULARIES for name in tails):
        raise ValueError(f"tokenizer.hashed must have no other fields than {', '.join(VOCABULARIES)}")
    for name, size in tails.items():
        if not is_whole(size, 1, MAX_HASHED):
            raise ValueError(f"tokenizer.hashed.{name} must be a whole number from 1 to {MAX_HASHED}")
    dwell = document.get("dwell_log_seconds")
    mean, std = (dwell.get("mean"), dwell.get("std")) if isinstance(dwell, dict) else (None, None)
    if not (_finite(mean) and _finite(std) and float(str(std)) > 0):
        raise ValueError("tokenizer.dwell_log_seconds must have a finite mean and a std above 0")
    return document


def _finite(value: object) -> bool:
    """Compared, not converted: JSON's whole numbers may be too large for a float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300
