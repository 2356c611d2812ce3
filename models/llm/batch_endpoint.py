"""The endpoint's batch API, as OpenAI documents it: a file of requests in, files of answers out, hours later.

`/files` takes the requests, `/batches` runs them, `/files/ID/content` gives what came of each. What is read
is read leniently, and messages of the server are never repeated, as in endpoint.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
import openai

from streamer.models.llm.endpoint import Endpoint, described
from streamer.models.llm.errors import BatchError, EndpointError

T = TypeVar("T")
COMPLETED, FAILED, EXPIRED = "completed", "failed", "expired"
_ENDED = frozenset({COMPLETED, FAILED, EXPIRED, "cancelled", "canceled"})
"""Endpoints have further names for what is still to come."""
_NO_SUCH_API = frozenset({404, 405, 501})


class _Code(msgspec.Struct, frozen=True):
    code: str | None = None


class _Errors(msgspec.Struct, frozen=True):
    data: list[_Code] | None = None


class _Counts(msgspec.Struct, frozen=True):
    completed: int = 0


class BatchState(msgspec.Struct, frozen=True):
    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: _Errors | None = None
    request_counts: _Counts | None = None

    @property
    def runs(self) -> bool:
        return self.status not in _ENDED

    @property
    def completed(self) -> int:
        return self.request_counts.completed if self.request_counts else 0

    @property
    def code(self) -> str:
        """Why it failed; empty if it isn't said."""
        found = self.errors.data if self.errors and self.errors.data else []
        return next((each.code for each in found if each.code), "")


class _Listed(msgspec.Struct, frozen=True):
    data: list[BatchState]


class _File(msgspec.Struct, frozen=True):
    id: str


class _Response(msgspec.Struct, frozen=True):
    status_code: int = 0
    body: msgspec.Raw = msgspec.Raw(b"null")


class BatchLine(msgspec.Struct, frozen=True):
    """What came of one request."""

    custom_id: str
    response: _Response | None = None
    error: _Code | None = None

    @property
    def completion(self) -> bytes | None:
        """None if there is no answer."""
        if self.error is None and self.response is not None and self.response.status_code == 200:
            return bytes(self.response.body)
        return None

    @property
    def failed_with(self) -> str:
        """Status or code, of what has no completion."""
        if self.error is not None and self.error.code:
            return self.error.code
        return str(self.response.status_code) if self.response else "no answer"


class BatchEndpoint(Endpoint):
    """Raises EndpointError, and BatchError if a batch or the whole batch API isn't there."""

    def upload(self, requests: bytes) -> str:
        """The id of a file with a request a line."""
        with self._explaining():
            raw = self._client.files.with_raw_response.create(
                file=("requests.jsonl", requests), purpose="batch"
            )
            return _decoded(raw.http_response.read(), _File).id

    def start(self, file_id: str) -> BatchState:
        """Sent once: a second batch of the same requests would be paid too."""
        once = self._client.with_options(max_retries=0)
        with self._explaining():
            raw = once.batches.with_raw_response.create(
                input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            return _state(raw.http_response.read())

    def started_with(self, file_id: str) -> BatchState | None:
        """The batch of this file, if it is among the latest hundred."""
        with self._explaining():
            raw = self._client.batches.with_raw_response.list(limit=100)
            latest = _decoded(raw.http_response.read(), _Listed).data
        return next((each for each in latest if each.input_file_id == file_id), None)

    def state(self, batch_id: str) -> BatchState:
        with self._explaining():
            return _state(self._client.batches.with_raw_response.retrieve(batch_id).http_response.read())

    def lines(self, file_id: str) -> Iterator[BatchLine]:
        """Without lines that are damaged."""
        with self._explaining():
            content = self._client.files.content(file_id).read()
        for line in content.splitlines():
            try:
                yield msgspec.json.decode(line, type=BatchLine, strict=False)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue

    def delete(self, file_id: str) -> None:
        """As far as the endpoint lets it: files also go by themselves."""
        try:
            self._client.files.delete(file_id)
        except openai.OpenAIError:
            return

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except openai.APIStatusError as error:
            if error.status_code not in _NO_SUCH_API:
                raise EndpointError(self._explained(error)) from None
            raise BatchError(
                f"the endpoint {self.base_url} has no batch API, or no longer this batch"
                f" ({described(error)}); without --llm-batch, requests are sent one by one"
            ) from None
        except openai.OpenAIError as error:
            raise EndpointError(self._explained(error)) from None
        except msgspec.DecodeError:
            raise EndpointError(
                f"the endpoint {self.base_url} answers with something else than a file or a batch;"
                " expected OpenAI's batch API"
            ) from None


def _decoded(body: Any, of_type: type[T]) -> T:
    return msgspec.json.decode(body, type=of_type, strict=False)


def _state(body: Any) -> BatchState:
    found = _decoded(body, BatchState)
    return msgspec.structs.replace(found, status=found.status.lower())
