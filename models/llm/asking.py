"""Questions and usable answers: answer store, budget, and asking again.

An unusable answer is asked again together with what was wrong with it, a truncated one with more room. Every
answer that was paid for is stored before it is checked, one file per question, so a run that died pays for no
question twice. The budget is reserved before a request is sent, so the cap holds with requests in flight.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import msgspec

from models.llm.config import LlmConfig
from models.llm.endpoint import Answer, Endpoint, Messages, tokens_in
from models.llm.errors import BudgetSpentError, RequestRefusedError, UnansweredError, UnusableError
from models.llm.structured_output import FORMATS, AnswerSchema, FormatFallback, instruction, request_of
from models.whole_file import write_whole

T = TypeVar("T")
S = TypeVar("S")
_REPEATED = 1500
"""Characters of an unusable answer that are shown to the model again."""


class Budget:
    """Counts the answers and tokens of the whole job, those of earlier runs included."""

    def __init__(self, requests: int, tokens: int) -> None:
        self._most_requests, self._most_tokens = requests, tokens
        self._lock = Lock()
        self._reserved_requests = self._reserved_tokens = 0
        self.requests = self.tokens = 0

    def paid(self, tokens: int) -> None:
        """Counts one answer, sent now or stored by an earlier run."""
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


class AnswerStore:
    """Safe for threads: two that write the same key write the same thing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def key(question: dict[str, Any]) -> str:
        """64 hex digits; the same for the same question, whatever the order of its keys."""
        canonical = json.dumps(question, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def get(self, key: str) -> Answer | None:
        """None also for a damaged file: the question is asked again."""
        try:
            return msgspec.json.decode(self._path(key).read_bytes(), type=Answer)
        except (OSError, msgspec.DecodeError):
            return None

    def put(self, key: str, answer: Answer) -> None:
        write_whole(self._path(key), msgspec.json.encode(answer))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


@dataclass(frozen=True)
class Question:
    system: str
    user: str
    temperature: float = 0.0
    variant: int = 0
    """Asks the same again, for an answer of its own."""


class Asker:
    """One model of one endpoint. Safe for threads."""

    def __init__(
        self,
        config: LlmConfig,
        endpoint: Endpoint,
        folder: Path,
        budget: Budget,
        on_answer: Callable[[Budget], None] = lambda _: None,
    ) -> None:
        """`on_answer` is called with every answer, stored ones included, from any thread."""
        self.config, self.model, self.budget = config, config.model, budget
        self._endpoint = endpoint
        self._on_answer = on_answer
        self._store = AnswerStore(folder)
        self._fallback = FormatFallback(folder / "endpoints.json", f"{config.base_url} {config.model}")
        self._lock = Lock()
        self.sent = self.unusable = 0
        """Requests of this run, and answers of the job that had to be asked again."""

    @property
    def answer_format(self) -> str:
        return self._fallback.current

    def ask(self, question: Question, schema: AnswerSchema[T]) -> T:
        """Raises UnansweredError, or what ends the job: EndpointError, BudgetSpentError."""
        asked = [
            {"role": "system", "content": f"{question.system}\n\n{instruction(schema)}"},
            {"role": "user", "content": question.user},
        ]
        messages, room, why = asked, self.config.max_tokens, ""
        for attempt in range(self.config.attempts):
            answer_format, answer = self._answer(messages, schema, question, attempt, room)
            try:
                found = schema.read(answer.text)
            except UnusableError as error:
                why = str(error)
            else:
                self._learn(answer_format, useful=True)
                return found
            with self._lock:
                self.unusable += 1
            if answer.finish == "length":
                room, messages = min(2 * room, self.config.most_tokens), asked
            else:
                self._learn(answer_format, useful=False)
                messages = [*asked, *_complaint(answer.text, why)]
        raise UnansweredError(f"no usable answer in {self.config.attempts} attempts")

    def _learn(self, answer_format: str | None, useful: bool) -> None:
        if answer_format is not None:
            self._fallback.answered(answer_format, useful)

    def map(self, do: Callable[[S], T], items: Iterable[S]) -> list[T]:
        """In order of the items, some at a time. The first error ends it; what was answered is stored."""
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            waiting = [pool.submit(do, item) for item in items]
            try:
                return [each.result() for each in waiting]
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _answer(
        self, messages: Messages, schema: AnswerSchema[T], question: Question, attempt: int, room: int
    ) -> tuple[str | None, Answer]:
        """The format that was asked in, None if the answer was stored, and the answer."""
        key = AnswerStore.key(
            {
                "endpoint": self._endpoint.base_url,
                "model": self.model,
                "messages": list(messages),
                "temperature": question.temperature,
                "variant": question.variant,
                "attempt": attempt,
                "room": room,
            }
        )
        stored = self._store.get(key)
        if stored is not None:
            self.budget.paid(stored.tokens)
            self._on_answer(self.budget)
            return None, stored
        # The last attempts use later formats: what a server ignores in one, it may follow in another.
        answer_format = self.answer_format if attempt < 2 else self._fallback.after(self.answer_format)
        with self.budget.reserved(tokens_in(messages) + room):
            answered_on, answer = self._sent(messages, schema, question, room, answer_format)
            if answer.finish != "unreadable":
                self._store.put(key, answer)
            self.budget.paid(answer.tokens)
        self._on_answer(self.budget)
        return answered_on, answer

    def _sent(
        self, messages: Messages, schema: AnswerSchema[T], question: Question, room: int, answer_format: str
    ) -> tuple[str, Answer]:
        """Tries format after format until the endpoint accepts one; then remembers those it refused."""
        refused: list[str] = []
        while True:
            with self._lock:
                self.sent += 1
            try:
                answer = self._endpoint.complete(
                    self.model, messages, request_of(answer_format, schema), question.temperature, room
                )
            except RequestRefusedError as error:
                refused.append(answer_format)
                if answer_format == FORMATS[-1]:
                    raise UnansweredError(f"the endpoint refuses the request ({error})") from None
                answer_format = self._fallback.after(answer_format)
            else:
                for each in refused:
                    self._fallback.refused(each)
                return answer_format, answer


def _complaint(text: str, why: str) -> list[dict[str, str]]:
    said = text[:_REPEATED] or "(nothing)"
    return [
        {"role": "assistant", "content": said},
        {"role": "user", "content": f"That can't be used: {why}. Answer again, with the JSON object only."},
    ]


def answered(do: Callable[[], T]) -> T | None:
    """The result, or None if no attempt gave a usable answer."""
    try:
        return do()
    except UnansweredError:
        return None
