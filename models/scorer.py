"""Scores sessions that closed together: tokenizer, encoder, classifier, calibration, abstention.

A session's result doesn't depend on its neighbours, and one that can't be scored doesn't disturb them. One
call at a time: caches are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Lock
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from streamer.models.arrays import Float32, Int64
from streamer.models.bundle import Bundle
from streamer.models.calibration import AbstainReason
from streamer.models.encoded import Encoded
from streamer.models.leave_out import Labelled, Reason, reasons
from streamer.models.runtime import Outputs
from streamer.schemas.click import Session

BEST = 5


class ScoredIntent(msgspec.Struct, frozen=True, gc=False):
    intent_id: str
    label: str
    parent: str
    """Id of the parent intent."""
    probability: float
    parent_probability: float | None = None
    presence: float | None = None
    """How likely the session shows this intent at all, beside others or not; None: not estimated."""


class Scored(msgspec.Struct, frozen=True):
    embedding: Float32
    """[D]"""
    intents: list[ScoredIntent]
    """The best five, most likely first; also when abstained."""
    top_intent: str | None
    """None if abstained."""
    abstained: bool
    abstain_reason: AbstainReason | None
    memberships: Float32 | None = None
    """[K], in the bundle's prototypes; None: not asked for, or the bundle has none."""
    reasons: list[Reason] | None = None
    """The clicks that speak most for the top intent, the strongest first; none if abstained. None: not asked
    for, or the model fails on what is left without one of them."""


class ScoreError(msgspec.Struct, frozen=True):
    """A session that can't be scored."""

    session_id: str
    reason: str


class Numbers(NamedTuple):
    """What results of N sessions are read from; of each the B likeliest intents, likeliest first."""

    embeddings: Float32
    """[N, D]"""
    finite: npt.NDArray[np.bool_]
    """[N]; whether embedding and probabilities are"""
    novelty: Float32
    """[N]"""
    best: Int64
    """[N, B]; which intents"""
    chances: Float32
    """[N, B]; their probabilities"""
    of_parents: Float32
    """[N, B]; those of their parents"""
    presence: Float32 | None
    """[N, B]; None if the bundle doesn't estimate it"""
    memberships: Float32 | None = None
    """[N, K]"""


Seen = Callable[[Encoded, Int64, Float32, "Sequence[AbstainReason | None]"], None]
"""Called with the sessions of one length bucket: tokens, likeliest intents, novelty, reasons to abstain."""


class Scorer:
    def __init__(
        self,
        bundle: Bundle,
        seen: Seen | None = None,
        *,
        memberships: bool = False,
        reasons: bool = False,
    ) -> None:
        """`memberships`: whether results have them, if the bundle has prototypes. `reasons`: whether results
        have them; each session is then scored once more for each of its clicks."""
        self.bundle = bundle
        self._prototypes = bundle.prototypes if memberships else None
        self._tells_reasons = reasons
        self._seen = seen
        self._intents = [(i.id, i.label, i.parent) for i in bundle.taxonomy.intents]
        self._places = {i.id: place for place, i in enumerate(bundle.taxonomy.intents)}
        parents, self._parent_of = np.unique([i.parent for i in bundle.taxonomy.intents], return_inverse=True)
        self._by_parent = self._parent_of.argsort(kind="stable")
        """Intents, those of one parent side by side."""
        self._first_of_parent = np.searchsorted(self._parent_of[self._by_parent], np.arange(len(parents)))
        self._lock = Lock()

    def score(self, sessions: Sequence[Session]) -> list[Scored | ScoreError]:
        """One entry per session, in order."""
        results: list[Scored | ScoreError | None] = [None] * len(sessions)
        with self._lock:
            ran = []
            for encoded in self._encode(sessions, results):
                outputs = self._run(encoded, sessions, results)
                if outputs is not None:
                    ran.append((encoded, outputs))
            if ran:
                self._read(ran, sessions, results)
            if self._tells_reasons:
                self._add_reasons(sessions, results)
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
        ran: Sequence[tuple[Encoded, Outputs]],
        sessions: Sequence[Session],
        results: list[Scored | ScoreError | None],
    ) -> None:
        """Of all length buckets at once: that takes half of the time."""
        places = [i for encoded, _ in ran for i in encoded.rows.tolist()]
        numbers = self._numbers(*map(np.concatenate, zip(*(outputs for _, outputs in ran), strict=True)))
        of_rows = [sessions[i] for i in places]
        reasons = self.bundle.calibration.reasons_to_abstain(of_rows, numbers.novelty, numbers.chances[:, 0])
        found = decode_predictions(numbers, self._intents, reasons)
        for i, result in zip(places, found, strict=True):
            results[i] = _failed(sessions[i], "its embedding is not finite") if result is None else result
        if self._seen:
            start = 0
            for encoded, outputs in ran:
                end = start + len(encoded.rows)
                self._seen(encoded, numbers.best[start:end, 0], outputs.novelty, reasons[start:end])
                start = end

    def _add_reasons(self, sessions: Sequence[Session], results: list[Scored | ScoreError | None]) -> None:
        labelled = [
            (i, Labelled(sessions[i], self._places[result.top_intent], result.intents[0].probability))
            for i, result in enumerate(results)
            if isinstance(result, Scored) and result.top_intent is not None
        ]
        found = self._reasons([each for _, each in labelled])
        told = {i: each for (i, _), each in zip(labelled, found, strict=True)}
        for i, result in enumerate(results):
            if isinstance(result, Scored):
                results[i] = msgspec.structs.replace(result, reasons=told.get(i, []))

    def _reasons(self, labelled: Sequence[Labelled]) -> Sequence[list[Reason] | None]:
        """Of all sessions; of each by itself if the model fails on what is left of one, which has none."""
        try:
            return reasons(self.bundle, labelled)
        except Exception:  # as in `_run`
            if len(labelled) == 1:
                return [None]
            return [found for each in labelled for found in self._reasons([each])]

    def _numbers(self, embeddings: Float32, logits: Float32, novelty: Float32) -> Numbers:
        calibration = self.bundle.calibration
        probabilities = calibration.probabilities(logits)
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, :BEST]
        everything = np.concatenate((embeddings, probabilities), axis=1)
        rows = np.arange(len(best))[:, None]
        chances = probabilities[rows, best]
        return Numbers(
            embeddings=embeddings,
            finite=np.logical_and.reduce(np.isfinite(everything), axis=1),
            novelty=novelty,
            best=best,
            chances=chances,
            of_parents=self._of_parents(probabilities)[rows, self._parent_of[best]],
            presence=calibration.presence(chances),
            memberships=self._prototypes.memberships(embeddings) if self._prototypes else None,
        )

    def _of_parents(self, probabilities: Float32) -> Float32:
        """[N, P]: of the parents that have intents. Row by row: a row's sums don't depend on others."""
        together = probabilities[:, self._by_parent]
        found = np.add.reduceat(together, self._first_of_parent, axis=1, dtype=np.float64)
        return found.astype(np.float32)


def decode_predictions(
    numbers: Numbers, intents: list[tuple[str, str, str]], reasons: list[AbstainReason | None]
) -> list[Scored | None]:
    """The results of N sessions, None where the numbers aren't finite.

    `intents`: id, label and parent of each. `reasons`: [N], to abstain.
    """
    finite, embeddings = numbers.finite.tolist(), list(numbers.embeddings)
    best = numbers.best.ravel().tolist()
    chances, of_parents = numbers.chances.ravel().tolist(), numbers.of_parents.ravel().tolist()
    presence = [None] * len(best) if numbers.presence is None else numbers.presence.ravel().tolist()
    memberships = [None] * len(embeddings) if numbers.memberships is None else list(numbers.memberships)
    results: list[Scored | None] = []
    width = numbers.best.shape[1]
    for row in range(len(reasons)):
        if not finite[row]:
            results.append(None)
            continue
        first, reason = row * width, reasons[row]
        ranked = []
        for at in range(first, first + width):
            number = best[at]
            names = intents[number]
            ranked.append(
                ScoredIntent(names[0], names[1], names[2], chances[at], of_parents[at], presence[at])
            )
        top = None if reason else ranked[0].intent_id
        results.append(Scored(embeddings[row], ranked, top, reason is not None, reason, memberships[row]))
    return results


def _failed(session: Session, reason: str) -> ScoreError:
    return ScoreError(session.session_id, f"session can't be scored: {reason}")
