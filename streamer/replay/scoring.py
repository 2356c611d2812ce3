"""Scores the sessions of a replay with one bundle or several side by side, and writes their records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from streamer.errors import UsageError
from streamer.models.bundle import Bundle, load_bundle
from streamer.models.scorer import Scored, ScoreError, Scorer
from streamer.pipeline.records import RecordWriter, SessionRecords
from streamer.schemas.click import Session


class BundleOutput(NamedTuple):
    """What one bundle made of a session."""

    scored: Scored
    records: SessionRecords


class ScoredSession(NamedTuple):
    session: Session
    outputs: tuple[BundleOutput | None, ...]
    """By bundle; None where it could not score the session."""
    errors: tuple[str, ...]
    """Reasons of those that could not."""


class BundleScorers:
    """The bundles of a replay."""

    def __init__(
        self,
        bundles: Iterable[Bundle],
        rules_version: str,
        *,
        memberships: bool = False,
        reasons: bool = False,
    ) -> None:
        """`memberships`, `reasons`: as of `Scorer`."""
        self.bundles = list(bundles)
        self.rules_version = rules_version
        self._scorers = [Scorer(bundle, memberships=memberships, reasons=reasons) for bundle in self.bundles]
        self._writers = [RecordWriter(bundle, rules_version) for bundle in self.bundles]

    @classmethod
    def load(
        cls,
        paths: Iterable[Path],
        rules_version: str,
        *,
        memberships: bool = False,
        reasons: bool = False,
    ) -> BundleScorers:
        """Raises BundleError, and UsageError for a bundle that is named twice."""
        bundles = [load_bundle(path) for path in paths]
        versions = [bundle.model_version for bundle in bundles]
        for version in versions:
            if versions.count(version) > 1:
                raise UsageError(f"--bundle: {version} is named twice; expected different bundles")
        return cls(bundles, rules_version, memberships=memberships, reasons=reasons)

    @property
    def model_versions(self) -> list[str]:
        return [bundle.model_version for bundle in self.bundles]

    def score(self, sessions: Sequence[Session]) -> list[ScoredSession]:
        """One entry per session, in order."""
        by_bundle = [
            [self._output(writer, each, result) for each, result in zip(sessions, scores, strict=True)]
            for writer, scores in zip(
                self._writers, [scorer.score(sessions) for scorer in self._scorers], strict=True
            )
        ]
        return [
            ScoredSession(
                session,
                tuple(r if isinstance(r, BundleOutput) else None for r in outputs),
                tuple(r for r in outputs if isinstance(r, str)),
            )
            for session, *outputs in zip(sessions, *by_bundle, strict=True)
        ]

    @staticmethod
    def _output(writer: RecordWriter, session: Session, scored: Scored | ScoreError) -> BundleOutput | str:
        if isinstance(scored, ScoreError):
            return scored.reason
        return BundleOutput(scored, writer.write(session, scored))
