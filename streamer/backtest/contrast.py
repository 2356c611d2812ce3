"""Where two bundles differ: sessions, labels, vectors. Streams; keeps counts and small samples only."""

from __future__ import annotations

import hashlib
import heapq
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamer.parquet_rows import opened
from streamer.replay.rows import ROW_GROUP, require_columns

EXAMPLES = 3
"""Sessions that are shown for each of the commonest flips."""
FLIPS = 25
NEIGHBOURS = 10
SAMPLE = 2000
"""Sessions among which neighbours are looked for."""
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)

Floats = npt.NDArray[np.float32]

Row = dict[str, Any]
Sides = dict[str, Row]
"""Row by model_version; a bundle that could not score the session isn't in it."""

COLUMNS = (
    "session_id",
    "visitor_id",
    "started_at",
    "ended_at",
    "closed_at",
    "is_bot",
    "model_version",
    "embedding",
    "embedding_space",
    "taxonomy_version",
    "intents",
    "top_intent",
    "abstained",
    "abstain_reason",
)


def sessions_side_by_side(path: Path, columns: Sequence[str] = COLUMNS) -> Iterator[Sides]:
    """One entry a session, in the file's order. Raises UsageError if the file isn't one of a replay."""
    with opened(path) as file:
        require_columns(path, file, COLUMNS)
        rows = (
            row for batch in file.iter_batches(ROW_GROUP, columns=list(columns)) for row in batch.to_pylist()
        )
        # A replay writes all rows of a session one after the other.
        for _, of_session in groupby(rows, key=lambda row: (row["session_id"], row["closed_at"])):
            yield {row["model_version"]: row for row in of_session}


def label_of(row: Row) -> str:
    """The intent that the bundle named, in words, or why it named none."""
    if row["abstained"]:
        return f"({row['abstain_reason']})"
    return str(row["intents"][0]["label"])


class Contrast:
    """Bundle `b` held against bundle `a`, by model_version. `add` each session, then `as_dict`."""

    def __init__(self, a: str, b: str) -> None:
        self.a = a
        self.b = b
        self._sessions: Counter[str] = Counter()
        self._flips: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        self._cosines = array("f")
        self._spaces: set[tuple[str, str]] = set()
        self._labels: tuple[dict[str, str], dict[str, str]] = ({}, {})
        """What each bundle's taxonomy calls an intent, by id."""
        self._sample: list[tuple[int, str, list[float], list[float]]] = []

    def add(self, sides: Sides) -> None:
        one, other = sides.get(self.a), sides.get(self.b)
        if one is None or other is None:
            self._sessions["only_a" if one else "only_b" if other else "neither"] += 1
            return
        self._sessions["both"] += 1
        self._spaces.add((one["embedding_space"], other["embedding_space"]))
        for known, row in zip(self._labels, (one, other), strict=True):
            known.update((intent["intent_id"], intent["label"]) for intent in row["intents"])
        self._note_labels(one, other)
        self._note_vectors(one, other)

    def as_dict(self) -> dict[str, Any]:
        both = self._sessions["both"]
        flipped = sum(count for (one, other), count in self._flips.items() if one != other)
        return {
            "a": self.a,
            "b": self.b,
            "sessions": {name: self._sessions[name] for name in ("both", "only_a", "only_b")},
            "same_taxonomy": self._have_same_taxonomy(),
            "flips": {
                "sessions": flipped,
                "share": flipped / both if both else None,
                "commonest": self._commonest(),
            },
            "vectors": self._vectors(),
        }

    def _have_same_taxonomy(self) -> bool:
        """Whether no intent has an id in one that means something else in the other, and some are in both."""
        one, other = self._labels
        shared = one.keys() & other.keys()
        return bool(shared) and all(one[intent_id] == other[intent_id] for intent_id in shared)

    def _note_labels(self, one: Row, other: Row) -> None:
        labels = label_of(one), label_of(other)
        self._flips[labels] += 1
        if labels[0] != labels[1] and len(self._examples[labels]) < EXAMPLES:
            example = {
                "session_id": one["session_id"],
                "paths": [click["path"] for click in one.get("clicks") or [] if click["path"]][:8],
                "probability_a": one["intents"][0]["probability"],
                "probability_b": other["intents"][0]["probability"],
            }
            self._examples[labels].append(example)

    def _note_vectors(self, one: Row, other: Row) -> None:
        if one["embedding_space"] == other["embedding_space"]:
            x, y = np.array(one["embedding"]), np.array(other["embedding"])
            lengths = float(np.linalg.norm(x) * np.linalg.norm(y))
            self._cosines.append(float(x @ y) / lengths if lengths else 0.0)
        # Always the same sample: the sessions whose ids hash lowest.
        digest = hashlib.blake2b(one["session_id"].encode(), digest_size=8).digest()
        entry = -int.from_bytes(digest, "big"), one["session_id"], one["embedding"], other["embedding"]
        if len(self._sample) < SAMPLE:
            heapq.heappush(self._sample, entry)
        else:
            heapq.heappushpop(self._sample, entry)

    def _commonest(self) -> list[dict[str, Any]]:
        flips = ((labels, n) for labels, n in self._flips.most_common() if labels[0] != labels[1])
        return [
            {"a": one, "b": other, "sessions": count, "examples": self._examples[one, other]}
            for ((one, other), count), _ in zip(flips, range(FLIPS), strict=False)
        ]

    def _vectors(self) -> dict[str, Any]:
        comparable = all(one == other for one, other in self._spaces)
        found: dict[str, Any] = {"comparable": comparable, "neighbour_overlap": self._overlap()}
        if not comparable:
            found["because"] = "the bundles' embedding spaces differ: only neighbourhoods can be compared"
        elif self._cosines:
            values = np.quantile(np.array(self._cosines), QUANTILES)
            found["cosine"] = {f"{q:g}": float(v) for q, v in zip(QUANTILES, values, strict=True)}
        return found

    def _overlap(self) -> dict[str, Any] | None:
        """Of a session's nearest neighbours in one space, the share that is so in the other too."""
        count = len(self._sample)
        if count <= NEIGHBOURS + 1:
            return None
        ordered = sorted(self._sample)
        one, other = (_neighbours(np.array([entry[side] for entry in ordered])) for side in (2, 3))
        shared = [len(set(x) & set(y)) for x, y in zip(one.tolist(), other.tolist(), strict=True)]
        return {
            "neighbours": NEIGHBOURS,
            "sessions": count,
            "share": float(np.mean(shared)) / NEIGHBOURS,
            "by_chance": NEIGHBOURS / (count - 1),
        }


def _neighbours(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """[S, NEIGHBOURS]: the rows nearest to each row by cosine."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    nearness = unit @ unit.T
    np.fill_diagonal(nearness, -np.inf)
    nearest: npt.NDArray[np.int64] = np.argpartition(-nearness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return nearest
