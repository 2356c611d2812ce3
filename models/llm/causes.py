"""Why an answer was of no use, and what to do where that is so of nearly all answers."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from streamer.models.llm.endpoint import Answer
from streamer.models.llm.errors import UnreadableError, UnusableError
from streamer.models.llm.structured_output import thinks_without_end


class Cause(StrEnum):
    NO_COMPLETION = "no chat completion came back"
    EMPTY = "the answer was empty"
    FILTERED = "the endpoint's content filter withheld the answer"
    TRUNCATED = "the answer was cut off"
    THINKING = "the model didn't come to the end of its thinking"
    NO_JSON = "there was no JSON in the answer"
    OTHER_FORM = "the JSON had another form than was asked for"
    WRONG = "the answer named what doesn't exist or left out what was asked for"
    TOO_LONG = "the endpoint refused the request as too long"
    REFUSED = "the endpoint refused the request"


_ADVICE = {
    Cause.NO_COMPLETION: "llm.base_url must be what stands before /chat/completions, mostly ending in /v1",
    Cause.EMPTY: "is llm.model a chat model, and does it need something in llm.extra_body?",
    Cause.FILTERED: "turn the filter off for this use, or take another llm.model",
    Cause.TRUNCATED: "raise llm.max_tokens, or lower llm.sessions_per_request",
    Cause.THINKING: "raise llm.max_tokens, or turn thinking off by llm.extra_body",
    Cause.NO_JSON: "take a llm.model that follows instructions, or an endpoint that keeps to a JSON schema",
    Cause.OTHER_FORM: "take an endpoint that keeps to a JSON schema, or a stronger llm.model",
    Cause.WRONG: "set llm.sessions_per_request to 1, or take a stronger llm.model",
    Cause.TOO_LONG: "lower llm.sessions_per_request, or serve the model with a longer context",
    Cause.REFUSED: "see the endpoint's own log, and llm.extra_body",
}


def cause_of(answer: Answer, error: UnusableError) -> Cause:
    if answer.finish == "unreadable":
        return Cause.NO_COMPLETION
    if answer.finish == "content_filter":
        return Cause.FILTERED
    if thinks_without_end(answer.text):
        return Cause.THINKING
    if answer.finish == "length":
        return Cause.TRUNCATED
    if not answer.text.strip():
        return Cause.EMPTY
    if not isinstance(error, UnreadableError):
        return Cause.WRONG
    return Cause.OTHER_FORM if "{" in answer.text else Cause.NO_JSON


def most_often(causes: Counter[Cause]) -> str:
    """The commonest cause and what to do about it, as the end of a sentence; empty if there is none."""
    if not causes:
        return ""
    cause, times = causes.most_common(1)[0]
    return f"{times} of {causes.total()} times {cause}: {_ADVICE[cause]}"
