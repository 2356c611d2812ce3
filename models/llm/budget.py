"""What a job may spend and has spent, over all its runs, threads and processes.

A request is counted before it is sent, with the most tokens that it may take, and corrected when its answer
is there. One that ends without an answer stays counted: it may have been paid.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streamer.models.llm.errors import BudgetSpentError

_WIDTH = 80
"""Bytes of the file: it is written in one piece, so that a killed run leaves all of it or none."""


class Budget:
    """Safe for threads and for processes that share the file."""

    def __init__(self, requests: int, tokens: int, file: Path) -> None:
        self._most_requests, self._most_tokens = requests, tokens
        self._file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    def spent(self) -> tuple[int, int]:
        """Requests and tokens so far."""
        with self._locked() as (spent, _):
            return spent

    @contextmanager
    def reserved(self, tokens: int) -> Iterator[Callable[[int], None]]:
        """Room for one request of at most `tokens`; call what is yielded with what it really took.

        Raises BudgetSpentError if there is no room.
        """
        self.reserve(tokens)
        yield lambda really: self.settle(tokens, really)

    def reserve(self, tokens: int) -> None:
        """One request. Raises BudgetSpentError if there is no room."""
        with self._locked() as ((requests, spent), write):
            self._check(requests, spent, tokens)
            write(requests + 1, spent + tokens)

    def settle(self, reserved: int, really: int) -> None:
        with self._locked() as ((requests, spent), write):
            write(requests, spent + really - reserved)

    def release(self, reserved: int) -> None:
        """Of a request that was not run."""
        with self._locked() as ((requests, spent), write):
            write(requests - 1, spent - reserved)

    @contextmanager
    def _locked(self) -> Iterator[tuple[tuple[int, int], Callable[[int, int], None]]]:
        with self._file.open("r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)

            def write(requests: int, tokens: int) -> None:
                file.seek(0)
                file.write(json.dumps({"requests": requests, "tokens": tokens}).ljust(_WIDTH).encode())

            yield _read(file.read()), write

    def _check(self, requests: int, spent: int, tokens: int) -> None:
        if requests >= self._most_requests:
            raise BudgetSpentError(
                f"the budget of {self._most_requests} requests is spent: raise llm.budget_requests and run"
                " the same command again, answers so far are kept"
            )
        if spent + tokens > self._most_tokens:
            raise BudgetSpentError(
                f"{spent} of {self._most_tokens} tokens are spent and the next request may take"
                f" {tokens}: raise llm.budget_tokens and run the same command again, answers so far are kept"
            )


def _read(content: bytes) -> tuple[int, int]:
    if not content.strip():
        return 0, 0
    spent = json.loads(content)
    return spent["requests"], spent["tokens"]
