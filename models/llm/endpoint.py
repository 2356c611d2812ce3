"""The endpoint over HTTP: one question, one answer. Only here and in batch_endpoint.py is the client library.

The client retries what is worth retrying and obeys `Retry-After`. Messages of a server are never
repeated, for they can quote the question, and the question is made of what visitors did.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import openai

from streamer.models.llm.config import LlmConfig
from streamer.models.llm.errors import EndpointError, RequestRefusedError

Messages = Sequence[dict[str, str]]
_CHARACTERS_PER_TOKEN = 3
"""On the safe side for English."""
_CONNECT_S = 10.0
_OF_A_FORMAT = frozenset({404, 500, 501})
"""What some servers say of a format that they don't know; 503 comes from one that is starting."""
_EVENT = b"data:"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class _Call(msgspec.Struct):
    arguments: Any = None
    """JSON text; some servers give the object itself."""


class _ToolCall(msgspec.Struct):
    function: _Call | None = None


class _Message(msgspec.Struct):
    content: Any = None
    """Text, or a list of parts."""
    tool_calls: list[_ToolCall] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    total_tokens: int | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None


class _Delta(msgspec.Struct):
    message: _Message | None = msgspec.field(default=None, name="delta")
    finish_reason: str | None = None


class _Piece(msgspec.Struct):
    choices: list[_Delta] | None = None
    usage: _Usage | None = None


def tokens_in(messages: Messages) -> int:
    """An estimate on the high side."""
    return sum(len(message["content"]) for message in messages) // _CHARACTERS_PER_TOKEN + 50


class Answer(msgspec.Struct, frozen=True):
    """What came back, before any check."""

    text: str
    """Empty if there was none."""
    finish: str
    """`stop`, `length` (truncated), ..."""
    tokens: int
    """Of question and answer; estimated where the server doesn't say."""


class Endpoint:
    """Safe for threads."""

    def __init__(self, config: LlmConfig) -> None:
        self.base_url = config.base_url
        self._client = openai.OpenAI(
            base_url=config.base_url,
            api_key=config.api_key or "none",
            default_headers=dict(config.headers),
            timeout=openai.Timeout(config.timeout_s, connect=min(config.timeout_s, _CONNECT_S)),
            max_retries=config.retries,
        )
        self._extra_body = dict(config.extra_body)
        self._without: set[str] = set()
        """Parameters that the endpoint refused: some models have one temperature only, or another limit."""
        self._streams = False
        """Whether the endpoint answers in pieces only."""

    def close(self) -> None:
        self._client.close()

    def body(
        self, model: str, messages: Messages, extra: dict[str, Any], temperature: float, max_tokens: int
    ) -> dict[str, Any]:
        """What `complete` would send, as far as is known by now what the endpoint accepts."""
        parameters = self._parameters(temperature, max_tokens)
        return {"model": model, "messages": list(messages), **parameters, **extra, **self._extra_body}

    def complete(
        self, model: str, messages: Messages, extra: dict[str, Any], temperature: float, max_tokens: int
    ) -> Answer:
        """Raises RequestRefusedError, or EndpointError if there is no point in going on."""
        while True:
            parameters = self._parameters(temperature, max_tokens)
            try:
                raw = self._client.chat.completions.with_raw_response.create(
                    model=model,
                    messages=list(messages),  # type: ignore[arg-type]
                    stream=self._streams,
                    extra_body=self._extra_body,
                    **parameters,
                    **extra,
                )
                body = self._body(raw.http_response)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._adapted(error, parameters):
                    raise RequestRefusedError(described(error), _too_long(error)) from None
            except (openai.NotFoundError, openai.InternalServerError) as error:
                ending = EndpointError(self._explained(error))
                if error.status_code not in _OF_A_FORMAT:
                    raise ending from None
                raise RequestRefusedError(described(error), ending=ending) from None
            except openai.OpenAIError as error:
                raise EndpointError(self._explained(error)) from None
            else:
                return read_completion(_assembled(body), tokens_in(messages))

    def _adapted(self, error: openai.APIStatusError, parameters: dict[str, Any]) -> bool:
        """Whether the request can be sent in another way after this error."""
        refused = _refused_parameter(error, parameters)
        if refused is not None:
            self._without.add(refused)
            return True
        if self._streams or not re.search(r"\bstream", str(error.message)):
            return False
        self._streams = True
        return True

    def _parameters(self, temperature: float, max_tokens: int) -> dict[str, Any]:
        limit = "max_completion_tokens" if "max_tokens" in self._without else "max_tokens"
        wanted = {"temperature": temperature, limit: max_tokens}
        return {name: value for name, value in wanted.items() if name not in self._without}

    def _body(self, response: Any) -> bytes:
        try:
            body: bytes = response.read()
        except Exception as error:  # of whichever HTTP library the client has
            raise EndpointError(self._explained(error)) from None
        return body

    def _explained(self, error: Exception) -> str:
        at = f"the endpoint {self.base_url}"
        kept = "answers so far are kept: run the same command again later"
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return f"{at} refuses the key ({described(error)}); expected one in llm.api_key or llm.headers"
        if isinstance(error, openai.NotFoundError):
            return f"{at} has no such path or model ({described(error)}); see llm.base_url and llm.model"
        if isinstance(error, openai.RateLimitError):
            return f"{at} still limits the rate after all retries ({described(error)}); {kept}"
        if isinstance(error, openai.APITimeoutError):
            return f"{at} didn't answer within llm.timeout_s, after all retries; {kept}"
        if isinstance(error, openai.APIStatusError):
            return f"{at} fails after all retries ({described(error)}); {kept}"
        return f"{at} can't be reached ({type(error).__name__}); see llm.base_url; {kept}"


def _refused_parameter(error: openai.APIStatusError, parameters: dict[str, Any]) -> str | None:
    """The parameter that the server refused, named in `param` or only in its message."""
    param = getattr(error, "param", None)
    if param in parameters:
        return str(param)
    return next((name for name in parameters if re.search(rf"\b{name}\b", str(error.message))), None)


def _too_long(error: openai.APIStatusError) -> bool:
    said = f"{getattr(error, 'code', '')} {error.message}"
    return re.search(r"context.?(length|size|window)|too (long|large|many tokens)", said, re.I) is not None


def described(error: Exception) -> str:
    """Status and error code: never the message."""
    status = getattr(error, "status_code", None)
    code = getattr(error, "code", None)
    return f"{status} {code}" if isinstance(code, str) and _NAME.fullmatch(code) else str(status)


def _assembled(body: bytes) -> bytes:
    """A completion that came in pieces, as server-sent events, as one; any other body as it is."""
    if not body.lstrip().startswith(_EVENT):
        return body
    text, finish, usage = "", "stop", None
    for line in body.splitlines():
        try:
            piece = msgspec.json.decode(line.removeprefix(_EVENT), type=_Piece, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        usage = piece.usage or usage
        for choice in (piece.choices or ())[:1]:
            message = choice.message or _Message()
            text += _text(message.content)
            text += "".join(_arguments(call.function) for call in message.tool_calls or () if call.function)
            finish = choice.finish_reason or finish
    return msgspec.json.encode(_Completion([_Choice(_Message(text), finish)], usage))


def read_completion(body: bytes, asked_tokens: int) -> Answer:
    """Reads leniently: a body that is no completion is an answer without text."""
    try:
        completion = msgspec.json.decode(body, type=_Completion, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Answer("", "unreadable", asked_tokens)
    choice = completion.choices[0] if completion.choices else _Choice()
    message = choice.message or _Message()
    calls = [_arguments(call.function) for call in message.tool_calls or () if call.function]
    text = next((each for each in calls if each), None) or _text(message.content)
    used = completion.usage.total_tokens if completion.usage else None
    estimated = asked_tokens + len(text) // _CHARACTERS_PER_TOKEN
    return Answer(text, choice.finish_reason or "none", used if used and used > 0 else estimated)


def _arguments(call: _Call) -> str:
    given = call.arguments
    return json.dumps(given) if isinstance(given, dict) else given if isinstance(given, str) else ""


def _text(content: Any) -> str:
    """Of a list of parts the text parts, joined: not `thinking`, images or whatever else there is."""
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    texts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str))
