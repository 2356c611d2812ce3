"""What a job may cost. Reserved before a request is sent, so that the cap holds with requests in flight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from models.llm.errors import BudgetSpentError


class Budget:
    """Counts answers and tokens of the whole job: also those that an earlier run paid for."""

    def __init__(self, requests: int, tokens: int) -> None:
        self._most_requests, self._most_tokens = requests, tokens
        self._lock = Lock()
        self._reserved_requests = self._reserved_tokens = 0
        self.requests = self.tokens = 0

    def paid(self, tokens: int) -> None:
        """An answer of an earlier run was used."""
        with self._lock:
            self.requests += 1
            self.tokens += tokens

    @contextmanager
    def reserved(self, tokens: int) -> Iterator[None]:
        """Room for one request of at most `tokens`; raises BudgetSpentError if there is none."""
        with self._lock:
            self._check(tokens)
            self._reserved_requests += 1
            self._reserved_tokens += tokens
        try:
            yield
        finally:
            with self._lock:
                self._reserved_requests -= 1
                self._reserved_tokens -= tokens

    def _check(self, tokens: int) -> None:
        if self.requests + self._reserved_requests >= self._most_requests:
            raise BudgetSpentError(
                f"the budget of {self._most_requests} requests is spent: raise llm.budget_requests and run"
                " the same command again, answers so far are kept"
            )
        if self.tokens + self._reserved_tokens + tokens > self._most_tokens:
            raise BudgetSpentError(
                f"{self.tokens} of {self._most_tokens} tokens are spent and the next request may take"
                f" {tokens}: raise llm.budget_tokens and run the same command again, answers so far are kept"
            )
