"""What can go wrong between a question and a usable answer."""

from __future__ import annotations


class LlmError(Exception):
    """The language model can't finish the job; the text says what to do."""


class EndpointError(LlmError):
    """The endpoint can't be used, or not now."""


class BudgetSpentError(LlmError):
    """The next request could exceed the budget."""


class UnansweredError(LlmError):
    """No attempt gave a usable answer."""


class RequestRefusedError(Exception):
    """The endpoint refuses this request: a format it doesn't know, or too much text."""


class UnusableError(Exception):
    """An answer doesn't fit the schema; the text is for the model."""
