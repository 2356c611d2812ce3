"""A question until one of its answers is usable, without I/O: what is sent next, what an answer changes.

An unusable answer is asked again together with what was wrong with it, a truncated one with more room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from streamer.models.llm.config import LlmConfig
from streamer.models.llm.endpoint import Answer, Messages
from streamer.models.llm.errors import UnreadableError, UnusableError
from streamer.models.llm.structured_output import AnswerSchema, instruction

T = TypeVar("T")
_REPEATED = 1500
"""Characters of an unusable answer that are shown to the model again."""


@dataclass(frozen=True)
class Question:
    system: str
    user: str
    temperature: float = 0.0
    variant: int = 0
    """Asks the same again, for an answer of its own."""


class Dialogue(Generic[T]):
    """The same answers lead to the same requests, whenever and in whichever way they come."""

    def __init__(self, config: LlmConfig, question: Question, schema: AnswerSchema[T]) -> None:
        self.question, self.schema = question, schema
        self._config = config
        self._asked = [
            {"role": "system", "content": f"{_about_site(question.system, config)}\n\n{instruction(schema)}"},
            {"role": "user", "content": question.user},
        ]
        self.messages: Messages = self._asked
        """Of the next request."""
        self.room = config.max_tokens
        """Tokens that its answer may have."""
        self.attempt = 0
        self.unreadable = 0
        """Answers so far that hadn't the form, and weren't cut off."""

    @property
    def is_over(self) -> bool:
        return self.attempt == self._config.attempts

    def read(self, answer: Answer) -> T:
        """Raises UnusableError, and is then at the next attempt, if there is one."""
        try:
            return self.schema.read(answer.text)
        except UnusableError as why:
            self.attempt += 1
            if answer.finish == "length":
                self.room, self.messages = min(2 * self.room, self._config.most_tokens), self._asked
            else:
                self.unreadable += isinstance(why, UnreadableError)
                self.messages = [*self._asked, *_complaint(answer.text, str(why))]
            raise


def _about_site(system: str, config: LlmConfig) -> str:
    site = config.site
    return f"{system} The website, as its owners describe it: {site}" if site else system


def _complaint(text: str, why: str) -> list[dict[str, str]]:
    said = text[:_REPEATED] or "(nothing)"
    return [
        {"role": "assistant", "content": said},
        {"role": "user", "content": f"That can't be used: {why}. Answer again, with the JSON object only."},
    ]
