"""What the language model teaches from in tests; needs no torch."""

from __future__ import annotations

import numpy as np

from streamer.models.labelling.teacher import TeacherInput
from tests.models.hand_made import bank_sessions

FEW = {"sessions_summarized": 40, "sessions_piloted": 30, "sessions_labelled": 60, "votes": 2}
"""A configuration that asks a few dozen questions."""


def teacher_input(count: int, seed: int = 0) -> TeacherInput:
    embeddings = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return TeacherInput(bank_sessions(count, seed), embeddings)
