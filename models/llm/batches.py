"""Requests in batches: within the budget, waited for, resumed after a kill, their answers stored.

One batch of a folder at a time. What was submitted is written down before it is waited for: after a kill the
next run waits for the same batch. Reservations of the budget are settled by what came of each request.
"""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

from streamer.models.llm.answer_store import AnswerStore
from streamer.models.llm.batch_endpoint import (
    COMPLETED,
    EXPIRED,
    FAILED,
    BatchEndpoint,
    BatchLine,
    BatchState,
)
from streamer.models.llm.budget import Budget
from streamer.models.llm.endpoint import read_completion
from streamer.models.llm.errors import BatchError, BudgetSpentError, LlmError
from streamer.models.whole_file import write_whole

PENDING = "batch.json"
_FIRST_WAIT_S, _LONGEST_WAIT_S, _BACK_OFF = 5.0, 60.0, 1.5
_LEAST_ANSWERED = 0.5
"""Of a batch; below it something is wrong with all of its requests."""


@dataclass(frozen=True)
class BatchedRequest:
    key: str
    """Of its answer in the store."""
    body: dict[str, Any]
    asked: int
    """Tokens of the question, estimated."""
    room: int
    """Tokens that the answer may have."""


class _Submitted(msgspec.Struct, frozen=True):
    asked: int
    room: int

    @property
    def reserved(self) -> int:
        return self.asked + self.room


class _Pending(msgspec.Struct, frozen=True):
    file_id: str
    requests: dict[str, _Submitted]
    """By key."""
    batch_id: str | None = None
    """None: not known yet whether it was started."""


class Batches:
    def __init__(
        self,
        endpoint: BatchEndpoint,
        store: AnswerStore,
        budget: Budget,
        most: int,
        sleep: Callable[[float], None],
    ) -> None:
        """`most`: requests of one batch."""
        self._endpoint, self._store, self._budget = endpoint, store, budget
        self._most, self._sleep = most, sleep
        self._file = store.folder / PENDING
        self.on_wait: Callable[[BatchState, int], None] = lambda _state, _requests: None
        """Called with a batch that still runs, and how many requests it has."""

    def resume(self) -> None:
        """Waits for the batch that an earlier run left, if there is one."""
        with self._alone():
            pending = self._pending()
            if pending is None:
                return
            if pending.batch_id is None:
                found = self._found(pending.file_id)
                if found is None:
                    self._forget(pending, ())
                    return
                pending = msgspec.structs.replace(pending, batch_id=found.id)
                self._write(pending)
            self._finish(pending)

    def _found(self, file_id: str) -> BatchState | None:
        try:
            return self._endpoint.started_with(file_id)
        except BatchError:  # an endpoint that lists none
            return None

    def answer(self, requests: Sequence[BatchedRequest]) -> list[str]:
        """Stores answers to as many requests as fit a batch and the budget; the keys of these."""
        with self._alone():
            unique = {each.key: each for each in requests}
            submitted = self._reserved(list(unique.values()))
            lines = [_line(unique[key]) for key in submitted]
            try:
                file_id = self._endpoint.upload(b"".join(lines))
            except LlmError:
                self._release(submitted)
                raise
            pending = _Pending(file_id, submitted)
            self._write(pending)
            try:
                started = self._endpoint.start(file_id)
            except BatchError:
                self._forget(pending, ())
                raise
            pending = msgspec.structs.replace(pending, batch_id=started.id)
            self._write(pending)
            self._finish(pending)
        return list(submitted)

    def _reserved(self, requests: Sequence[BatchedRequest]) -> dict[str, _Submitted]:
        submitted: dict[str, _Submitted] = {}
        for each in requests:
            if len(submitted) == self._most:
                break
            room = _Submitted(each.asked, each.room)
            try:
                self._budget.reserve(room.reserved)
            except BudgetSpentError:
                if not submitted:
                    raise
                break
            submitted[each.key] = room
        return submitted

    def _finish(self, pending: _Pending) -> None:
        state = self._ended(pending)
        failed: Counter[str] = Counter()
        not_run, answered = dict(pending.requests), 0
        for line in self._lines(state):
            request = not_run.get(line.custom_id)
            if request is None:
                continue
            if line.completion is None:
                failed[line.failed_with] += 1
            else:
                answered += self._keep(line.custom_id, line.completion, request)
                del not_run[line.custom_id]
        outputs = [each for each in (state.output_file_id, state.error_file_id) if each]
        self._forget(msgspec.structs.replace(pending, requests=not_run), outputs)
        requests = len(pending.requests)
        if state.status != COMPLETED or answered < _LEAST_ANSWERED * requests:
            raise BatchError(_explained(state, requests, answered, failed))

    def _ended(self, pending: _Pending) -> BatchState:
        wait = _FIRST_WAIT_S
        while (state := self._state(str(pending.batch_id))).runs:
            self.on_wait(state, len(pending.requests))
            self._sleep(wait)
            wait = min(wait * _BACK_OFF, _LONGEST_WAIT_S)
        return state

    def _state(self, batch_id: str) -> BatchState:
        try:
            return self._endpoint.state(batch_id)
        except BatchError as error:
            raise BatchError(
                f"batch {batch_id}: {error}. If it is gone for good, delete {self._file} and run the same"
                " command again: what it had is asked anew"
            ) from None

    def _lines(self, state: BatchState) -> Iterator[BatchLine]:
        files = (state.output_file_id, state.error_file_id)
        return chain.from_iterable(self._endpoint.lines(each) for each in files if each)

    def _keep(self, key: str, completion: bytes, request: _Submitted) -> bool:
        """Whether it is an answer."""
        if self._store.get(key) is not None:
            return True
        answer = read_completion(completion, request.asked)
        if answer.finish != "unreadable":
            self._store.put(key, answer)
        self._budget.settle(request.reserved, answer.tokens)
        return answer.finish != "unreadable"

    def _forget(self, pending: _Pending, outputs: Sequence[str]) -> None:
        """What `pending` still has of requests was not run. The endpoint needn't keep what visitors did."""
        self._file.unlink()
        self._release(pending.requests)
        for each in (pending.file_id, *outputs):
            self._endpoint.delete(each)

    def _release(self, requests: dict[str, _Submitted]) -> None:
        for each in requests.values():
            self._budget.release(each.reserved)

    def _pending(self) -> _Pending | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Pending)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise BatchError(f"{self._file} can't be read ({error}): expected what a run wrote") from None

    def _write(self, pending: _Pending) -> None:
        write_whole(self._file, msgspec.json.encode(pending))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._file.with_suffix(".lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BatchError(
                    f"another run waits for a batch of {self._file.parent}: expected one at a time"
                ) from None
            yield


def _line(request: BatchedRequest) -> bytes:
    line = {
        "custom_id": request.key,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": request.body,
    }
    return msgspec.json.encode(line) + b"\n"


def _explained(state: BatchState, requests: int, answered: int, failed: Counter[str]) -> str:
    if state.status == FAILED:
        return (
            f"the endpoint refused batch {state.id} ({state.code or 'without a code'}): see what it says of"
            " the batch; if there were too many requests or tokens, lower llm.batch_requests"
        )
    ended = {COMPLETED: "left most of its requests", EXPIRED: "expired before it was done"}
    how = ended.get(state.status, "was cancelled at the endpoint")
    mostly = f" (mostly for {failed.most_common(1)[0][0]})" if failed else ""
    return (
        f"batch {state.id} {how}{mostly}: {answered:,} of {requests:,} were answered and are kept. Run the"
        " same command again for the others"
    )
