"""Why training can't go on."""

from __future__ import annotations


class TrainingError(Exception):
    """The sessions can't train a model, or a step's result is missing; the text says what to do."""
