"""Questions and usable answers: answer store, budget, and asking again.

An unusable answer is asked again together with what was wrong with it, a truncated one with more room. Every
answer that was paid for is stored before it is checked, so a run that died pays for no question twice.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import msgspec

from streamer.models.llm.budget import Budget
from streamer.models.llm.causes import Cause, cause_of
from streamer.models.llm.config import LlmConfig
from streamer.models.llm.endpoint import Answer, Endpoint, Messages, tokens_in
from streamer.models.llm.errors import RequestRefusedError, UnansweredError, UnreadableError, UnusableError
from streamer.models.llm.structured_output import (
    FORMATS,
    AnswerSchema,
    FormatFallback,
    instruction,
    request_of,
)

T = TypeVar("T")
S = TypeVar("S")
_REPEATED = 1500
"""Characters of an unusable answer that are shown to the model again."""


class _Stored(msgspec.Struct, frozen=True):
    key: str
    answer: Answer


class AnswerStore:
    """A file with a line per answer, only ever appended to. Safe for threads."""

    def __init__(self, file: Path) -> None:
        self.folder = file.parent
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._lock = Lock()
        self._answers = {each.key: each.answer for each in _stored_in(file)}

    @staticmethod
    def key(question: dict[str, Any]) -> str:
        """64 hex digits; the same for the same question, whatever the order of its keys."""
        canonical = json.dumps(question, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def get(self, key: str) -> Answer | None:
        return self._answers.get(key)

    def put(self, key: str, answer: Answer) -> None:
        line = msgspec.json.encode(_Stored(key, answer)) + b"\n"
        with self._lock, self._file.open("ab", buffering=0) as file:
            file.write(line)
            self._answers[key] = answer


def _stored_in(file: Path) -> list[_Stored]:
    """Without lines that are damaged: what they answered is asked again. A half last line is ended."""
    content = file.read_bytes() if file.exists() else b""
    if content and not content.endswith(b"\n"):
        with file.open("ab") as end:
            end.write(b"\n")
    found = []
    for line in content.splitlines():
        try:
            found.append(msgspec.json.decode(line, type=_Stored))
        except msgspec.DecodeError:
            continue
    return found


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
        store: AnswerStore,
        budget: Budget,
    ) -> None:
        self.config, self.model, self.budget = config, config.model, budget
        self._endpoint = endpoint
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
        asked = [
            {"role": "system", "content": f"{self._about_site(question.system)}\n\n{instruction(schema)}"},
            {"role": "user", "content": question.user},
        ]
        messages, room, unreadable = asked, self.config.max_tokens, 0
        for attempt in range(self.config.attempts):
            # What a server ignores in one format, it may follow in another.
            answer_format = self._fallback.after(self.answer_format) if unreadable > 1 else self.answer_format
            asked_in, answer = self._answer(messages, schema, question, attempt, room, answer_format)
            try:
                found = schema.read(answer.text)
            except UnusableError as error:
                why = error
            else:
                self._learn(asked_in, readable=True)
                return found
            self._count(cause_of(answer, why))
            if answer.finish == "length":
                room, messages = min(2 * room, self.config.most_tokens), asked
            else:
                readable = not isinstance(why, UnreadableError)
                unreadable += not readable
                self._learn(asked_in, readable)
                messages = [*asked, *_complaint(answer.text, str(why))]
        raise UnansweredError(f"no usable answer in {self.config.attempts} attempts")

    def _about_site(self, system: str) -> str:
        site = self.config.site
        return f"{system} The website, as its owners describe it: {site}" if site else system

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

    def _answer(
        self,
        messages: Messages,
        schema: AnswerSchema[T],
        question: Question,
        attempt: int,
        room: int,
        answer_format: str,
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
                **({"extra_body": dict(self.config.extra_body)} if self.config.extra_body else {}),
            }
        )
        answer, asked_in = self._store.get(key), None
        if answer is None:
            with self.budget.reserved(tokens_in(messages) + room) as took:
                asked_in, answer = self._sent(messages, schema, question, room, answer_format)
                if answer.finish != "unreadable":
                    self._store.put(key, answer)
                took(answer.tokens)
        with self._lock:
            self.answers += 1
            self.tokens += answer.tokens
        self.on_answer(self)
        return asked_in, answer

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
                    self._count(Cause.TOO_LONG if error.too_long else Cause.REFUSED)
                    raise error.ending or UnansweredError(
                        f"the endpoint refuses the request ({error})"
                    ) from None
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
