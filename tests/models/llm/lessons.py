"""What the language model teaches from in tests; needs no torch."""

from __future__ import annotations

import numpy as np

from models.training.teacher import Lesson
from tests.models.hand_made import bank_sessions

FEW = {"sessions_summarized": 40, "sessions_piloted": 30, "sessions_labelled": 60, "votes": 2}
"""A configuration that asks a few dozen questions."""


def lesson(count: int, seed: int = 0) -> Lesson:
    embeddings = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return Lesson(bank_sessions(count, seed), embeddings)
