"""Scores sessions that closed together: tokenizer, encoder, classifier, calibration, abstention.

A session's result doesn't depend on its neighbours, and one that can't be scored doesn't disturb them. One
call at a time: caches are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Lock
from typing import Literal

import msgspec
import numpy as np

from models.bundle import Bundle
from models.encoded import Encoded, Float32
from models.runtime import Outputs
from schemas.click import Session

BEST = 5
AbstainReason = Literal["ambiguous", "novel", "too_short"]


class ScoredIntent(msgspec.Struct, frozen=True):
    intent_id: str
    label: str
    parent: str
    """Id of the parent intent."""
    probability: float


class Scored(msgspec.Struct, frozen=True):
    embedding: Float32
    """[D]"""
    intents: list[ScoredIntent]
    """The best five, most likely first; also when abstained."""
    top_intent: str | None
    """None if abstained."""
    abstained: bool
    abstain_reason: AbstainReason | None


class ScoreError(msgspec.Struct, frozen=True):
    """A session that can't be scored."""

    session_id: str
    reason: str


class Scorer:
    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._intents = [(i.id, i.label, i.parent) for i in bundle.taxonomy.intents]
        self._lock = Lock()

    def score(self, sessions: Sequence[Session]) -> list[Scored | ScoreError]:
        """One entry per session, in order."""
        results: list[Scored | ScoreError | None] = [None] * len(sessions)
        with self._lock:
            for encoded in self._encode(sessions, results):
                outputs = self._run(encoded, sessions, results)
                if outputs is not None:
                    self._read(encoded, outputs, sessions, results)
        return [
            _failed(session, "no result") if result is None else result
            for session, result in zip(sessions, results, strict=True)
        ]

    def _encode(
        self, sessions: Sequence[Session], results: list[Scored | ScoreError | None]
    ) -> list[Encoded]:
        """Tokens of all sessions; of each by itself if one can't be tokenized."""
        encode = self.bundle.tokenizer.encode
        try:
            return encode(sessions)
        except Exception:  # whatever a session holds, its neighbours are scored
            alone: list[Encoded] = []
            for i, session in enumerate(sessions):
                try:
                    (encoded,) = encode([session])
                except Exception as error:
                    results[i] = _failed(session, f"can't be tokenized ({type(error).__name__})")
                else:
                    alone.append(replace(encoded, rows=np.array([i])))
            return alone

    def _run(
        self, encoded: Encoded, sessions: Sequence[Session], results: list[Scored | ScoreError | None]
    ) -> Outputs | None:
        try:
            return self.bundle.runtime.run(encoded)
        except Exception as error:  # onnxruntime raises classes of its own, without a common base
            for i in encoded.rows.tolist():
                results[i] = _failed(sessions[i], f"the model fails on it ({type(error).__name__})")
            return None

    def _read(
        self,
        encoded: Encoded,
        outputs: Outputs,
        sessions: Sequence[Session],
        results: list[Scored | ScoreError | None],
    ) -> None:
        probabilities = self.bundle.calibration.probabilities(outputs.logits)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :BEST]
        finite = np.isfinite(np.c_[outputs.embeddings, probabilities]).all(1).tolist()
        ranked = np.take_along_axis(probabilities, best, 1).tolist()
        for row, i in enumerate(encoded.rows.tolist()):
            if not finite[row]:
                results[i] = _failed(sessions[i], "its embedding is not finite")
                continue
            reason = self._abstention(sessions[i], float(outputs.novelty[row]), ranked[row][0])
            intents = [
                ScoredIntent(*self._intents[int(k)], p)
                for k, p in zip(best[row].tolist(), ranked[row], strict=True)
            ]
            results[i] = Scored(
                embedding=outputs.embeddings[row],
                intents=intents,
                top_intent=None if reason else intents[0].intent_id,
                abstained=reason is not None,
                abstain_reason=reason,
            )

    def _abstention(self, session: Session, novelty: float, probability: float) -> AbstainReason | None:
        limits = self.bundle.calibration
        if session.event_count < limits.min_clicks and not any(c.search_query for c in session.clicks):
            return "too_short"
        if not novelty <= limits.max_novelty:
            return "novel"
        return "ambiguous" if probability < limits.min_probability else None


def _failed(session: Session, reason: str) -> ScoreError:
    return ScoreError(session.session_id, f"session can't be scored: {reason}")
