"""The rule endpoint with the batch API as OpenAI documents it: each line is answered by the same rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from email import message_from_bytes
from typing import Any

from tests.models.llm.rule_endpoint import (
    HANG_UP,
    Body,
    ChatHandler,
    Misbehaviour,
    Reply,
    RuleEndpoint,
    as_json,
)

NOT_FOUND = as_json(404, {"error": {"message": "no such thing", "code": "not_found"}})
Line = dict[str, Any]


class BatchHandler(ChatHandler):
    def do_POST(self) -> None:  # noqa: N802
        if self.path.endswith("/chat/completions"):
            super().do_POST()
            return
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/files"):
            form = message_from_bytes(
                f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + content
            )
            parts = {
                str(part.get_param("name", header="content-disposition")): part.get_payload(decode=True)
                for part in form.get_payload()  # type: ignore[union-attr]
            }
            self.send(self.server.uploaded(parts))
        else:
            self.send(self.server.created(json.loads(content)))

    def do_GET(self) -> None:  # noqa: N802
        self.send(self.server.got(self.path.partition("?")[0].split("/")[2:]))

    def do_DELETE(self) -> None:  # noqa: N802
        found = self.server.files.pop(self.path.rpartition("/")[2], None)
        self.send(NOT_FOUND if found is None else as_json(200, {"deleted": True}))


class BatchRuleEndpoint(RuleEndpoint):
    """A batch is in progress when it is first asked for, and then ends as `ends_as`."""

    handler = BatchHandler

    def __init__(self, misbehave: Misbehaviour | None = None) -> None:
        super().__init__(misbehave=misbehave)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Body] = {}
        self.batched: list[list[Body]] = []
        """The requests of each batch."""
        self.ends_as = "completed"
        self.most: int | None = None
        """Requests of a batch that are run."""
        self.spoil: Callable[[int, Line], Line | str] = lambda _number, line: line
        """(number of the line in its batch, line) to what stands in the file instead."""
        self.has_api = True
        self.hangs_up_once_started = False

    def uploaded(self, parts: dict[str, Any]) -> Reply:
        if not self.has_api:
            return NOT_FOUND
        assert parts["purpose"] == b"batch"
        return as_json(200, {"id": self._filed(parts["file"]), "object": "file", "purpose": "batch"})

    def _filed(self, content: bytes) -> str:
        name = f"file-{len(self.files) + 1000 * len(self.batches)}"
        self.files[name] = content
        return name

    def created(self, given: Body) -> Reply:
        assert (given["endpoint"], given["completion_window"]) == ("/v1/chat/completions", "24h")
        batch = {
            "id": f"batch_{len(self.batches)}", "object": "batch", "status": "validating", "errors": None,
            "input_file_id": given["input_file_id"], "output_file_id": None, "error_file_id": None,
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }  # fmt: skip
        self.batches[str(batch["id"])] = batch
        requests = [json.loads(line) for line in self.files[given["input_file_id"]].splitlines()]
        assert len({each["custom_id"] for each in requests}) == len(requests)
        assert all((each["method"], each["url"]) == ("POST", "/v1/chat/completions") for each in requests)
        self.batched.append([each["body"] for each in requests])
        batch["requests"] = requests
        return HANG_UP if self.hangs_up_once_started else as_json(200, _shown(batch))

    def got(self, path: list[str]) -> Reply:
        match path:
            case ["batches"]:
                return as_json(200, {"object": "list", "data": [_shown(b) for b in self.batches.values()]})
            case ["batches", batch_id] if batch_id in self.batches:
                batch = self.batches[batch_id]
                seen = as_json(200, _shown(batch))
                self._advance(batch)
                return seen
            case ["files", file_id, "content"] if file_id in self.files:
                return 200, {"Content-Type": "application/octet-stream"}, self.files[file_id]
        return NOT_FOUND

    def _advance(self, batch: Body) -> None:
        if batch["status"] == "validating":
            batch["status"] = "in_progress"
        elif batch["status"] == "in_progress":
            self._run(batch)
            batch["status"] = self.ends_as

    def _run(self, batch: Body) -> None:
        if self.ends_as == "failed":
            errors = [{"code": "token_limit_exceeded", "message": "secret", "line": None, "param": None}]
            batch["errors"] = {"object": "list", "data": errors}
            return
        outputs: dict[bool, list[str]] = {True: [], False: []}
        for number, request in enumerate(batch["requests"][: self.most]):
            status, _, content = self.answer(number, request["body"])
            response = {"status_code": status, "request_id": "r", "body": json.loads(content)}
            line = {
                "id": f"l{number}",
                "custom_id": request["custom_id"],
                "response": response,
                "error": None,
            }
            found = self.spoil(number, line)
            is_good = isinstance(found, str) or (found["response"] or {}).get("status_code") == 200
            outputs[is_good].append(found if isinstance(found, str) else json.dumps(found))
        for name, is_good in (("output_file_id", True), ("error_file_id", False)):
            if outputs[is_good]:
                batch[name] = self._filed("\n".join(outputs[is_good]).encode())
        counts = {"total": len(batch["requests"]), "completed": len(outputs[True])}
        batch["request_counts"] = counts | {"failed": len(outputs[False])}


def _shown(batch: Body) -> Body:
    return {name: value for name, value in batch.items() if name != "requests"}
