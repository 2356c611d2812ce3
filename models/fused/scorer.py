"""The fused scorer: the weighted mean of several heads' log probabilities, made sharper, as probabilities.

Its file is one JSON object, without anything to execute: `format`, the classes, how features and clicks are
encoded, and the heads with their weights. Numbers are read back to the last bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from streamer.models.arrays import Float64, Int64
from streamer.models.fused.encodings import ClickEncoding, Columns, FeatureEncoding
from streamer.models.fused.heads import Head, LinearHead, Scaling, TreesHead, log_softmax
from streamer.schemas.click import Session

FORMAT = "fused-scorer-1"

FADING_MS = 4 * 86_400_000
"""An embedding's second copy falls by the factor e in this time."""

Block = Literal[
    "features", "clicks", "embedding", "features+embedding", "memberships", "embedding+memberships"
]
"""What a head reads."""


class ScorerFileError(ValueError):
    """A file that is no fused scorer, or inputs that it can't score."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """N rows: what was known at a time, and the last session that had closed strictly before it."""

    columns: Columns
    at: Int64
    """[N], ms UTC"""
    sessions: Sequence[Session]
    embeddings: Float64
    """[N, D]"""


@dataclass(frozen=True, slots=True)
class WeightedHead:
    reads: Block
    weight: float
    head: Head


@dataclass(frozen=True, slots=True)
class FusedScorer:
    classes: tuple[str, ...]
    """K"""
    within_ms: int
    """An outcome counts if it comes within this time after a row."""
    embedding_space: str
    """Vectors of another space can't be scored."""
    features: FeatureEncoding
    clicks: ClickEncoding
    heads: tuple[WeightedHead, ...]
    sharpness: float
    """What the mean of the heads is multiplied by."""

    def probabilities(self, inputs: Inputs) -> Float64:
        """[N, K]. Raises ScorerFileError if a feature is missing."""
        missing = [
            name for name in (*self.features.numbers, *self.features.categories) if name not in inputs.columns
        ]
        if missing:
            raise ScorerFileError(
                f"features: no column {missing[0]}; expected all that the scorer learnt from"
            )
        own, clicks = self.features.encode(inputs.columns), self.clicks.encode(inputs.sessions, inputs.at)
        blocks = blocks_of(own, clicks, faded(inputs))
        mean = sum(each.weight * each.head.log_probabilities(blocks[each.reads]) for each in self.heads)
        chances: Float64 = np.exp(log_softmax(self.sharpness * np.asarray(mean)))
        return chances

    def dumps(self) -> bytes:
        document = {
            "format": FORMAT,
            "classes": self.classes,
            "within_ms": self.within_ms,
            "embedding_space": self.embedding_space,
            "features": {
                "numbers": self.features.numbers,
                "marked": self.features.marked,
                "categories": self.features.categories,
            },
            "clicks": {"items": self.clicks.items},
            "heads": [
                {"reads": each.reads, "weight": each.weight, **_head_document(each.head)}
                for each in self.heads
            ],
            "sharpness": self.sharpness,
        }
        return json.dumps(document, default=_plain, allow_nan=False).encode() + b"\n"

    @classmethod
    def loads(cls, content: bytes) -> Self:
        """Raises ScorerFileError."""
        try:
            document = json.loads(content)
            if document["format"] != FORMAT:
                raise ScorerFileError(f"format {document['format']!r}: expected {FORMAT!r}")
            features = document["features"]
            return cls(
                classes=tuple(document["classes"]),
                within_ms=document["within_ms"],
                embedding_space=document["embedding_space"],
                features=FeatureEncoding(
                    tuple(features["numbers"]),
                    tuple(features["marked"]),
                    {name: tuple(values) for name, values in features["categories"].items()},
                ),
                clicks=ClickEncoding(tuple(document["clicks"]["items"])),
                heads=tuple(
                    WeightedHead(each["reads"], each["weight"], _head_of(each)) for each in document["heads"]
                ),
                sharpness=document["sharpness"],
            )
        except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ScorerFileError(
                f"no fused scorer ({type(error).__name__}); expected what `streamer model probe --out` writes"
            ) from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises OSError, and ScorerFileError, which names the file."""
        try:
            return cls.loads(path.read_bytes())
        except ScorerFileError as error:
            raise ScorerFileError(f"{path}: {error}") from None


def faded(inputs: Inputs) -> Float64:
    """[N, 2D + 1]: the embedding, a copy that fades with the time since its session closed, the fading."""
    ages = inputs.at - np.array([session.closed_at for session in inputs.sessions], dtype=np.int64)
    fading = np.exp(-ages / FADING_MS)[:, None]
    return np.concatenate([inputs.embeddings, inputs.embeddings * fading, fading], axis=1)


def blocks_of(features: Float64, clicks: Float64, embeddings: Float64) -> dict[Block, Float64]:
    """What heads read, [N, F] each, of encoded features and clicks, and of what `faded` gives."""
    both = np.concatenate([features, embeddings], axis=1)
    return {"features": features, "clicks": clicks, "embedding": embeddings, "features+embedding": both}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(type(value).__name__)


def _head_document(head: Head) -> dict[str, Any]:
    if isinstance(head, LinearHead):
        return {
            "kind": "linear",
            "mean": head.scaling.mean,
            "deviation": head.scaling.deviation,
            "weights": head.weights,
            "bias": head.bias,
        }
    return {"kind": "trees", **{each.name: getattr(head, each.name) for each in fields(TreesHead)}}


def _head_of(document: Mapping[str, Any]) -> Head:
    if document["kind"] == "linear":
        mean, deviation, weights, bias = (
            np.array(document[name], dtype=np.float64) for name in ("mean", "deviation", "weights", "bias")
        )
        return LinearHead(Scaling(mean, deviation), weights.reshape(len(mean), len(bias)), bias)
    floats = ("threshold", "value", "baseline")
    types: dict[str, Any] = {
        each.name: np.float64 if each.name in floats else np.int64 for each in fields(TreesHead)
    }
    types["missing_left"] = np.bool_
    return TreesHead(**{name: np.array(document[name], dtype=kind) for name, kind in types.items()})
