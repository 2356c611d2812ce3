"""Has the traffic moved away from what a bundle was made for? The last sessions beside its profile.

The window is the last one to two blocks of sessions: whole blocks leave it at once, so it costs two arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np

from models.bundle import Bundle
from models.encoded import Encoded, Float32, Int64
from models.profile import Layout, unknown_shares

BLOCK = 2500
"""Sessions. Of so many, a distribution over 20 categories that didn't move has a PSI of about .01."""


class DriftMonitor:
    """`see` fits a Scorer's `seen`. Reading while it is told of sessions is safe."""

    def __init__(self, layout: Layout, reference: np.ndarray, block: int = BLOCK) -> None:
        self._layout, self._reference, self._block = layout, reference, block
        self._full, self._filling = np.zeros(layout.width), np.zeros(layout.width)
        self._sessions_full = self._sessions_filling = 0

    @classmethod
    def of(cls, bundle: Bundle, block: int = BLOCK) -> Self | None:
        """None if the bundle has no profile: there is nothing to compare with."""
        profile = bundle.manifest.profile
        if profile is None:
            return None
        layout = Layout(bundle.taxonomy, profile.novelty_deciles)
        return cls(layout, layout.total(profile), block)

    def see(self, encoded: Encoded, best: Int64, novelty: Float32, reasons: Sequence[str | None]) -> None:
        self._filling = self._filling + self._layout.counted(encoded, best, novelty, reasons)
        self._sessions_filling += len(best)
        if self._sessions_filling >= self._block:
            self._full, self._sessions_full = self._filling, self._sessions_filling
            self._filling, self._sessions_filling = np.zeros(self._layout.width), 0

    @property
    def sessions(self) -> int:
        """In the window."""
        return self._sessions_full + self._sessions_filling

    def psi(self) -> dict[str, float]:
        """Of each part of the profile; empty before the first session."""
        if not self.sessions:
            return {}
        return self._layout.psi(self._reference, self._full + self._filling)

    def unknown_shares(self) -> dict[str, float]:
        """Of each learnt field: clicks in the window whose value training never learnt."""
        return unknown_shares(self._full + self._filling, self._layout.columns)
