"""Whose vectors are nearest: an index for each embedding space, which follows the records of a view.

- Vectors of two spaces are never compared. An index is made when the first vector of its space comes, and is
  dropped with the last.
- An index finds nearly all of the nearest, not certainly all (hierarchical navigable small worlds). It finds
  fewer of them after many of its vectors were replaced, so it is built anew beside the old one by then.
- Who is no longer in the view is never returned, and leaves the index within a second.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from usearch.index import Index
from xxhash import xxh3_64_intdigest

from streamer.client.table import Float32
from streamer.schemas import codec
from streamer.serving.records import RecordTable, RecordView, StoredRecord

_CONNECTIVITY, _EXPANSION_ADD, _EXPANSION_SEARCH = 16, 64, 128
"""Links of a vector, and candidates that are kept while a place for it, or what is near it, is looked for."""
_RENEWED_AFTER = 0.5
"""As many vectors were removed, as a share of those that are there: see `benchmarks/neighbours.py`."""
_AT_ONCE = 16
"""Records that an index takes in one go, so that a search waits for a few milliseconds at most."""
_LOOK_S = 0.2
_SPARE = 8
"""More are looked for than were asked for: some may have left the view meanwhile."""


class Neighbour(NamedTuple):
    id: str
    cosine: float


class SpaceIndex:
    """Vectors of one embedding space, in half precision. Safe to use in several threads."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self._lock = threading.Lock()
        self._keys: dict[int, str] = {}
        """Of the vectors, by the labels that they have in the index."""
        self._index = self._empty()
        self._removed = 0
        """Since the index was begun."""
        self._next: Index | None = None
        """The one that is being built to take its place."""
        self._to_move: list[int] = []
        """Labels that the next one lacks, but for those that were removed meanwhile."""

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, label: int) -> bool:
        return label in self._keys

    @property
    def memory_bytes(self) -> int:
        """Of the vectors and their links, as the library counts."""
        following = self._next
        return int(self._index.memory_usage) + (0 if following is None else int(following.memory_usage))

    def add(self, entries: Iterable[tuple[int, str, Float32]]) -> None:
        """Labels that aren't in it, whose they are, and vectors [D]."""
        labels, keys, vectors = zip(*entries, strict=True)
        with self._lock:
            for index in self._both():
                index.add(np.array(labels, np.uint64), np.stack(vectors), threads=1)
            self._keys.update(zip(labels, keys, strict=True))

    def remove(self, label: int) -> None:
        """Its place is taken by the next vector that comes."""
        with self._lock:
            del self._keys[label]
            self._removed += 1
            for index in self._both():
                index.remove(np.array([label], np.uint64))

    def renew(self) -> bool:
        """Do the next step of building it anew, if it is time for that; whether there is another."""
        with self._lock:
            if self._next is None:
                if self._removed <= _RENEWED_AFTER * len(self._keys):
                    return False
                self._next, self._to_move, self._removed = self._empty(), list(self._keys), 0
                return True
            portion = self._to_move[-_AT_ONCE:]
            if portion:
                del self._to_move[-_AT_ONCE:]
                # A label is there already if it was removed and has come again.
                self._move([each for each in portion if each in self._keys and each not in self._next])
                return True
            self._index, self._next = self._next, None
            return False

    def search(self, vector: Float32, count: int) -> list[Neighbour]:
        """At most `count`, the nearest first."""
        with self._lock:
            found = self._index.search(vector, count, threads=1)
            return [
                Neighbour(self._keys[label], 1 - float(distance))
                for label, distance in zip(found.keys.tolist(), found.distances, strict=True)
            ]

    def _move(self, labels: list[int]) -> None:
        if labels and self._next is not None:
            moved = np.array(labels, np.uint64)
            self._next.add(moved, np.array(self._index.get(moved, "f32")), threads=1)

    def _both(self) -> list[Index]:
        return [self._index] if self._next is None else [self._index, self._next]

    def _empty(self) -> Index:
        return Index(
            ndim=self.dimensions,
            metric="cos",
            dtype="f16",
            connectivity=_CONNECTIVITY,
            expansion_add=_EXPANSION_ADD,
            expansion_search=_EXPANSION_SEARCH,
        )


class Neighbours:
    """The indexes of a view. `take` is for one thread, all else for any."""

    def __init__(self, view: RecordView) -> None:
        self._view = view
        self._vector_of = view.table.vector_of
        self._indexes: dict[str, SpaceIndex] = {}
        self._places: dict[str, tuple[str, int]] = {}
        """Key -> the space that it has a vector of, and the vector's label there."""

    def __len__(self) -> int:
        return len(self._places)

    @property
    def spaces(self) -> list[str]:
        """Those that some record has a vector of."""
        return sorted(self._indexes)

    @property
    def memory_bytes(self) -> int:
        """Of all vectors and links."""
        return sum(index.memory_bytes for index in list(self._indexes.values()))

    @property
    def keys(self) -> list[str]:
        return list(self._places)

    def take(self, records: Iterable[tuple[str, StoredRecord | None]]) -> None:
        """The latest of these keys; None: it has none any more."""
        coming: dict[str, dict[int, tuple[str, Float32]]] = {}
        for key, stored in records:
            label = -1 if stored is None else xxh3_64_intdigest(stored.message)
            place = self._places.get(key)
            if place is not None and stored is not None and place[1] == label:
                continue
            self._drop(key)
            vector = None if stored is None else self._indexed_vector(stored)
            if stored is not None and vector is not None:
                coming.setdefault(stored.embedding_space, {})[label] = key, vector
        for space, entries in coming.items():
            self._add(space, entries)

    def renew(self) -> bool:
        """Do the next step of building indexes anew; whether there is another."""
        more = [index.renew() for index in self._indexes.values()]
        return any(more)

    def nearest(self, key: str, space: str, vector: Float32, count: int) -> list[Neighbour]:
        """At most `count`, the nearest first, without `key` itself. Empty if the space has no vectors of this
        length."""
        index = self._indexes.get(space)
        if index is None or index.dimensions != len(vector):
            return []
        found = index.search(vector, count + 1 + _SPARE)
        return [each for each in found if each.id != key and self._is_there(each.id, space)][:count]

    def _is_there(self, key: str, space: str) -> bool:
        stored = self._view.get(key)
        return stored is not None and stored.embedding_space == space

    def _indexed_vector(self, stored: StoredRecord) -> Float32 | None:
        """None where it can be nobody's neighbour: it is a robot's, there is none, or it can't be read."""
        try:
            record = stored.decoded()
        except codec.CodecError:
            return None
        return None if record["is_bot"] else self._vector_of(record)

    def _add(self, space: str, entries: dict[int, tuple[str, Float32]]) -> None:
        index = self._indexes.get(space)
        if index is None:
            _, first = next(iter(entries.values()))
            index = self._indexes[space] = SpaceIndex(len(first))
        # Of a space all vectors have one length; two records with one digest are not to be expected.
        new = [
            (label, key, vector)
            for label, (key, vector) in entries.items()
            if label not in index and len(vector) == index.dimensions
        ]
        if new:
            index.add(new)
            self._places.update((key, (space, label)) for label, key, _ in new)

    def _drop(self, key: str) -> None:
        place = self._places.pop(key, None)
        if place is None:
            return
        space, label = place
        self._indexes[space].remove(label)
        if not self._indexes[space]:
            del self._indexes[space]


class FollowedNeighbours(Neighbours):
    """Kept up to date by a thread of its own, once the view is read."""

    def __init__(self, view: RecordView) -> None:
        super().__init__(view)
        self._followed: RecordTable | None = None
        self._complete = threading.Event()
        self._stop = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="neighbours", daemon=True)

    @property
    def is_complete(self) -> bool:
        """Whether all is in the indexes that was in the view when it was read. Raises what ended it."""
        if self._failed is not None:
            raise self._failed
        return self._complete.is_set()

    @property
    def waiting(self) -> int:
        """Records that have changed and are not in the indexes yet."""
        return self._followed.waiting if self._followed is not None else 0

    def start(self) -> None:
        """Begin to follow the view."""
        self._thread.start()

    def stop(self) -> None:
        """Returns once the thread has ended."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                if not self._view.is_ready or not self._step():
                    self._stop.wait(_LOOK_S)
        except BaseException as error:
            self._failed = error

    def _step(self) -> bool:
        """Whether there may be more to do at once."""
        table = self._view.records
        if table is not self._followed:
            table.follow(also=self.keys)
            self._followed = table
        changed = table.changes(_AT_ONCE)
        self.take((key, self._view.get(key)) for key in changed)
        if not changed:
            self._complete.set()
        return self.renew() or bool(changed)
