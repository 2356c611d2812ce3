"""From the classifier's raw outputs to probabilities and abstentions: calibration.json.

Three abstentions, in this order: `too_short` (fewer than `min_clicks` clicks and no query: nothing to go
by), `novel` (further from everything in training than `max_novelty`), `ambiguous` (the best intent is less
probable than `min_probability`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from streamer.models.arrays import Float32
from streamer.schemas.click import Session

AbstainReason = Literal["ambiguous", "novel", "too_short"]


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    temperature: float
    """Logits are divided by it; above 0."""
    min_probability: float
    max_novelty: float
    """Highest `novelty` of a session that is labelled; 99 % of validation sessions are below."""
    min_clicks: int
    presence_slope: float | None = None
    """With the offset: from the log odds of an intent's probability to the log odds that the session shows
    it."""
    presence_offset: float | None = None
    blunt_share: float | None = None
    """Share of the second, blunter softmax in the probabilities; None: there is none."""
    blunt_temperature: float | None = None

    def probabilities(self, logits: Float32) -> Float32:
        """[N, K], row by row: a row's result doesn't depend on the others.

        One temperature can't be sure of clear sessions and doubt a teacher who errs now and then; a mixture
        of two can. J. Zhang et al., Mix-n-Match, ICML 2020.
        """
        sharp = softmax(logits, self.temperature)
        if self.blunt_share is None or self.blunt_temperature is None:
            return sharp.astype(np.float32)
        blunt = softmax(logits, self.blunt_temperature)
        return ((1.0 - self.blunt_share) * sharp + self.blunt_share * blunt).astype(np.float32)

    def presence(self, probabilities: Float32) -> Float32 | None:
        """[N, K]: how likely each intent is among those that a session shows; None if never fitted."""
        if self.presence_slope is None or self.presence_offset is None:
            return None
        odds = self.presence_slope * log_odds(probabilities) + self.presence_offset
        # Beyond, exp would overflow, and the chance is 0 either way.
        result: Float32 = (1 / (1 + np.exp(np.minimum(-odds, 700)))).astype(np.float32)
        return result

    def reasons_to_abstain(
        self, sessions: Sequence[Session], novelty: Float32, probability: Float32
    ) -> list[AbstainReason | None]:
        """One per session. `novelty`: [N]; `probability`: [N], of the likeliest intent."""
        min_clicks, max_novelty, min_probability = self.min_clicks, self.max_novelty, self.min_probability
        reasons: list[AbstainReason | None] = []
        for session, distance, chance in zip(sessions, novelty.tolist(), probability.tolist(), strict=True):
            reason: AbstainReason | None = None
            if session.event_count < min_clicks and not any(c.search_query for c in session.clicks):
                reason = "too_short"
            elif not distance <= max_novelty:
                reason = "novel"
            elif chance < min_probability:
                reason = "ambiguous"
            reasons.append(reason)
        return reasons


def softmax(logits: Float32, temperature: float) -> npt.NDArray[np.float64]:
    """[N, K] of [N, K], row by row."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(1, keepdims=True)
    weight = np.exp(scaled)
    result: npt.NDArray[np.float64] = weight / weight.sum(1, keepdims=True)
    return result


def log_odds(probabilities: Float32) -> npt.NDArray[np.float64]:
    """Of probabilities no nearer to 0 and 1 than a millionth."""
    p = np.clip(probabilities.astype(np.float64), 1e-6, 1 - 1e-6)
    found: npt.NDArray[np.float64] = np.log(p) - np.log1p(-p)
    return found


def to_json(calibration: Calibration) -> str:
    return json.dumps(msgspec.to_builtins(calibration), indent=2, sort_keys=True) + "\n"


def from_json(text: str | bytes) -> Calibration:
    """Raises ValueError with a reason."""
    try:
        calibration = msgspec.json.decode(text, type=Calibration)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"calibration can't be read: {error}") from None
    bounds = {
        "temperature": (1e-3, 1e3),
        "min_probability": (0.0, 1.0),
        "max_novelty": (0.0, math.inf),
        "min_clicks": (0, 1000),
    }
    for name, (lowest, highest) in bounds.items():
        value = getattr(calibration, name)
        if not lowest <= value <= highest:
            raise ValueError(f"calibration: {name} is {value}, expected {lowest} to {highest}")
    presence = calibration.presence_slope, calibration.presence_offset
    if presence != (None, None) and not all(each is not None and abs(each) <= 100 for each in presence):
        raise ValueError(f"calibration: presence is {presence}, expected two numbers of -100 to 100 or none")
    _check_blunt(calibration)
    return calibration


def _check_blunt(calibration: Calibration) -> None:
    share, temperature = calibration.blunt_share, calibration.blunt_temperature
    if share is None and temperature is None:
        return
    if share is None or temperature is None or not (0.0 <= share <= 1.0 and 1e-3 <= temperature <= 1e3):
        raise ValueError(
            f"calibration: blunt_share is {share} and blunt_temperature {temperature},"
            " expected 0 to 1 and 0.001 to 1000, or neither"
        )
