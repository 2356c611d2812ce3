"""Questions and usable answers: stored ones first, then the endpoint, within the budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, TypeVar

from streamer.models.llm.answer_store import AnswerStore
from streamer.models.llm.batches import BatchedRequest, Batches
from streamer.models.llm.budget import Budget
from streamer.models.llm.causes import Cause, cause_of
from streamer.models.llm.config import LlmConfig
from streamer.models.llm.dialogue import Dialogue, Question
from streamer.models.llm.endpoint import Answer, Endpoint, tokens_in
from streamer.models.llm.errors import RequestRefusedError, UnansweredError, UnreadableError, UnusableError
from streamer.models.llm.structured_output import FORMATS, AnswerSchema, FormatFallback, request_of

T = TypeVar("T")
S = TypeVar("S")
LEAST_BATCHED = 10
"""Fewer requests are sent one by one: nobody waits hours for them."""


class Asker:
    """One model of one endpoint. Safe for threads."""

    def __init__(
        self,
        config: LlmConfig,
        endpoint: Endpoint,
        store: AnswerStore,
        budget: Budget,
        batches: Batches | None = None,
    ) -> None:
        self.config, self.model, self.budget = config, config.model, budget
        self._endpoint, self.batches = endpoint, batches
        self._is_tried_out = False
        self.on_answer: Callable[[Asker], None] = lambda _: None
        """Called after every answer, stored ones included, from any thread."""
        self._store = store
        self._fallback = FormatFallback(store.folder / "endpoints.json", f"{config.base_url} {config.model}")
        self._lock = Lock()
        self.expected = 0
        """Answers that the whole job is likely to need."""
        self.answers = self.tokens = 0
        """Of this job, stored ones included."""
        self.sent = 0
        """Requests of this run."""
        self.causes: Counter[Cause] = Counter()
        """Of answers that had to be asked again."""

    @property
    def answer_format(self) -> str:
        return self._fallback.current

    def ask(self, question: Question, schema: AnswerSchema[T]) -> T:
        """Raises UnansweredError, or what ends the job: EndpointError, BudgetSpentError."""
        dialogue = Dialogue(self.config, question, schema)
        while not dialogue.is_over:
            asked_in, answer = self._answered(dialogue)
            try:
                found = dialogue.read(answer)
            except UnusableError as why:
                self._count(cause_of(answer, why))
                if answer.finish != "length":
                    self._learn(asked_in, not isinstance(why, UnreadableError))
            else:
                self._learn(asked_in, readable=True)
                return found
        raise UnansweredError(f"no usable answer in {self.config.attempts} attempts")

    def prefetch(self, asked: Iterable[tuple[Question, AnswerSchema[Any]]]) -> None:
        """Has what will be asked answered in batches, if the job has any, for `ask` to find it stored.

        One request goes ahead: it finds out what the endpoint understands. What batches leave unanswered,
        `ask` sends by itself. Raises what ends the job, as `ask` does, and BatchError.
        """
        if self.batches is None:
            return
        self.batches.resume()
        questions, tried = list(asked), set[str]()
        while len(waiting := list(self._unanswered(questions, tried))) >= LEAST_BATCHED:
            if not self._is_tried_out:
                self._is_tried_out = True
                answered(lambda: self._fetched(waiting[0]))
                continue
            tried.update(self.batches.answer([self._batched(each) for each in waiting]))

    def _unanswered(
        self, asked: Sequence[tuple[Question, AnswerSchema[Any]]], tried: set[str]
    ) -> Iterator[Dialogue[Any]]:
        """Each at its first request that has no stored answer."""
        for question, schema in asked:
            dialogue = Dialogue(self.config, question, schema)
            while not dialogue.is_over:
                key = self._key(dialogue)
                answer = self._store.get(key)
                if answer is None:
                    if key not in tried:
                        yield dialogue
                    break
                try:
                    dialogue.read(answer)
                except UnusableError:
                    continue
                break

    def _batched(self, dialogue: Dialogue[Any]) -> BatchedRequest:
        body = self._endpoint.body(
            self.model,
            dialogue.messages,
            request_of(self._format_of(dialogue), dialogue.schema),
            dialogue.question.temperature,
            dialogue.room,
        )
        return BatchedRequest(self._key(dialogue), body, tokens_in(dialogue.messages), dialogue.room)

    def _learn(self, answer_format: str | None, readable: bool) -> None:
        if answer_format is not None:
            self._fallback.answered(answer_format, readable)

    def _count(self, cause: Cause) -> None:
        with self._lock:
            self.causes[cause] += 1

    def map(self, do: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """In order of the items, some at a time. The first error ends it; what was answered is stored."""
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            waiting = [pool.submit(do, item) for item in items]
            try:
                return [each.result() for each in waiting]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _answered(self, dialogue: Dialogue[Any]) -> tuple[str | None, Answer]:
        """The format that was asked in, None if the answer was stored, and the answer."""
        asked_in, answer = self._fetched(dialogue)
        with self._lock:
            self.answers += 1
            self.tokens += answer.tokens
        self.on_answer(self)
        return asked_in, answer

    def _fetched(self, dialogue: Dialogue[Any]) -> tuple[str | None, Answer]:
        key = self._key(dialogue)
        answer, asked_in = self._store.get(key), None
        if answer is None:
            with self.budget.reserved(tokens_in(dialogue.messages) + dialogue.room) as took:
                asked_in, answer = self._sent(dialogue)
                if answer.finish != "unreadable":
                    self._store.put(key, answer)
                took(answer.tokens)
        return asked_in, answer

    def _key(self, dialogue: Dialogue[Any]) -> str:
        return AnswerStore.key(
            {
                "endpoint": self._endpoint.base_url,
                "model": self.model,
                "messages": list(dialogue.messages),
                "temperature": dialogue.question.temperature,
                "variant": dialogue.question.variant,
                "attempt": dialogue.attempt,
                "room": dialogue.room,
                **({"extra_body": dict(self.config.extra_body)} if self.config.extra_body else {}),
            }
        )

    def _format_of(self, dialogue: Dialogue[Any]) -> str:
        """What a server ignores in one format, it may follow in another."""
        current = self.answer_format
        return self._fallback.after(current) if dialogue.unreadable > 1 else current

    def _sent(self, dialogue: Dialogue[Any]) -> tuple[str, Answer]:
        """Tries format after format until the endpoint accepts one; then remembers those it refused."""
        answer_format = self._format_of(dialogue)
        refused: list[str] = []
        while True:
            with self._lock:
                self.sent += 1
            try:
                answer = self._endpoint.complete(
                    self.model,
                    dialogue.messages,
                    request_of(answer_format, dialogue.schema),
                    dialogue.question.temperature,
                    dialogue.room,
                )
            except RequestRefusedError as error:
                if error.ending and self._fallback.has_worked(answer_format):
                    raise error.ending from None
                refused.append(answer_format)
                if answer_format == FORMATS[-1]:
                    self._count(Cause.TOO_LONG if error.too_long else Cause.REFUSED)
                    raise error.ending or UnansweredError(
                        f"the endpoint refuses the request ({error})"
                    ) from None
                answer_format = self._fallback.after(answer_format)
            else:
                for each in refused:
                    self._fallback.refused(each)
                return answer_format, answer


def answered(do: Callable[[], T]) -> T | None:
    """The result, or None if no attempt gave a usable answer."""
    try:
        return do()
    except UnansweredError:
        return None
