"""Answers that are refusals: problem details (RFC 9457), with a `code` that programs go by.

None of them says whom the request was about.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import orjson
import structlog
from aiohttp import web

from streamer.serving.answers import Answer

MEDIA_TYPE = "application/problem+json"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger(__name__)


class Code(NamedTuple):
    """What kind of refusal it is."""

    name: str
    status: int
    meaning: str


MALFORMED_ID: Final = Code("malformed_id", 400, "The id is not 1 to 256 bytes of UTF-8")
MALFORMED_BODY: Final = Code("malformed_body", 400, "The body is not a JSON object with a list of ids")
MALFORMED_COUNT: Final = Code("malformed_count", 400, "The count is not a number from 1 to serve.max_batch")
UNKNOWN_SPACE: Final = Code("unknown_space", 400, "No record has a vector of this embedding space")
NO_TOKEN: Final = Code("no_token", 401, "The request has no bearer token, or one that isn't known")
UNKNOWN_ID: Final = Code("unknown_id", 404, "There is no record, or it is older than the time to live")
NO_SUCH_PATH: Final = Code("no_such_path", 404, "Nothing is served under this path")
METHOD_NOT_ALLOWED: Final = Code("method_not_allowed", 405, "The path is not served by this method")
NO_VECTOR: Final = Code("no_vector", 409, "The record has no vector of this embedding space")
ERASED: Final = Code("erased", 410, "There was a record, and it was erased or withdrawn")
BATCH_TOO_LARGE: Final = Code("batch_too_large", 413, "The batch names more ids than serve.max_batch")
OTHER_PARTITION: Final = Code("other_partition", 421, "Another instance has the partition of this customer")
TOO_MANY_LOOKUPS: Final = Code("too_many_lookups", 429, "The caller exceeds serve.rate_limit")
UNREADABLE_RECORD: Final = Code("unreadable_record", 500, "The record's bytes are no record of its schema")
FAILED: Final = Code("failed", 500, "The service failed; its log has the kind of error")
WARMING_UP: Final = Code("warming_up", 503, "The view is still being read from the topic, or indexed")

CODES: Final = (
    MALFORMED_ID,
    MALFORMED_BODY,
    MALFORMED_COUNT,
    UNKNOWN_SPACE,
    NO_TOKEN,
    UNKNOWN_ID,
    NO_SUCH_PATH,
    METHOD_NOT_ALLOWED,
    NO_VECTOR,
    ERASED,
    BATCH_TOO_LARGE,
    OTHER_PARTITION,
    TOO_MANY_LOOKUPS,
    UNREADABLE_RECORD,
    FAILED,
    WARMING_UP,
)
_OF_HTTP = {404: NO_SUCH_PATH, 405: METHOD_NOT_ALLOWED, 413: BATCH_TOO_LARGE}
"""Refusals of the HTTP library's own."""


class Refusal(Exception):  # noqa: N818, an answer rather than a mistake
    """Ends a request with a problem."""

    def __init__(
        self,
        code: Code,
        detail: str | None = None,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        """`detail`: none says what the code means. `members`: further ones of the problem."""
        super().__init__(detail or code.meaning)
        self.code = code
        self.members = members
        self._headers = headers or {}

    def answer(self) -> Answer:
        """As it goes to the caller."""
        problem = {
            "type": "about:blank",
            "title": HTTPStatus(self.code.status).phrase,
            "status": self.code.status,
            "detail": str(self),
            "code": self.code.name,
            **self.members,
        }
        headers = {"Cache-Control": "no-store", **self._headers, "Content-Type": MEDIA_TYPE}
        return Answer(self.code.status, headers, orjson.dumps(problem))


def answer_to(error: Exception) -> Answer:
    """The problem that this is to a caller. Of what nobody foresaw the log has the kind alone."""
    if isinstance(error, Refusal):
        return error.answer()
    log.error("lookup_failed", error=type(error).__name__)
    return Refusal(FAILED).answer()


@web.middleware
async def refusals_as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what a handler raises into a problem."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        code = _OF_HTTP.get(error.status)
        if code is None:
            raise
        allowed = error.headers.get("Allow")
        return Refusal(code, headers={"Allow": allowed} if allowed else None).answer().response()
    except Exception as error:
        return answer_to(error).response()
