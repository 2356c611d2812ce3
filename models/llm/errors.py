"""What can go wrong between a question and a usable answer."""

from __future__ import annotations


class LlmError(Exception):
    """The language model can't finish the job; the text says what to do."""


class EndpointError(LlmError):
    """The endpoint can't be used, or not now."""


class BatchError(LlmError):
    """A batch ended without most of its answers, or can't go on."""


class BudgetSpentError(LlmError):
    """The next request could exceed the budget."""


class UnansweredError(LlmError):
    """No attempt gave a usable answer."""


class RequestRefusedError(Exception):
    """The endpoint refuses this request: a format it doesn't know, or too much text."""

    def __init__(self, said: str, too_long: bool = False, ending: EndpointError | None = None) -> None:
        super().__init__(said)
        self.too_long = too_long
        self.ending = ending
        """What ends the job if the endpoint says the same to every format."""


class UnusableError(Exception):
    """An answer has the form asked for, but can't be right; the text is for the model."""


class UnreadableError(UnusableError):
    """An answer hasn't the form asked for: its format may be one that the endpoint ignores."""
