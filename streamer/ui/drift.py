"""Whether the sessions on the page are like those that the bundle was made with, as far as records say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from streamer.models.drift import FEWEST_SESSIONS
from streamer.models.drift_profile import Profile, psi
from streamer.ui.state import Session


class PageDrift(NamedTuple):
    """Population stability index by part; no parts: too few sessions to say."""

    sessions: int
    psi: dict[str, float]


def drift_of(sessions: Iterable[Session], profile: Profile, model_version: str) -> PageDrift:
    """Of people's sessions that this model has scored: likeliest intents, and why they have no label."""
    people = [each for each in sessions if not each.is_bot and each.model_version == model_version]
    if len(people) < FEWEST_SESSIONS:
        return PageDrift(len(people), {})
    found = {
        "intent": Counter(each.intents[0].intent_id for each in people),
        "abstention": Counter(each.abstain_reason or "none" for each in people),
    }
    return PageDrift(
        len(people), {part: _distance(profile.parts[part], counts) for part, counts in found.items()}
    )


def _distance(reference: dict[str, int], found: Counter[str]) -> float:
    names = sorted(reference)
    return psi(
        np.array([reference[name] for name in names], np.float64),
        np.array([found[name] for name in names], np.float64),
    )
