"""A chat endpoint on this machine that answers by plain rules over the renderings, and misbehaves on demand.

It knows nothing but what it is sent: words of paths and queries. `python -m tests.models.llm.rule_endpoint
PORT` runs it alone, for trying the commands without an account.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, TypeVar

_SESSION = re.compile(r'<session id="(\w+)">\n(.*?)\n</session>', re.DOTALL)
_INTENT = re.compile(r"^- ([^:\n]+): (.*)$", re.MULTILINE)
_LINE = re.compile(r"^(.+): (\d+)%$", re.MULTILINE)
_WORD = re.compile(r"[a-z]{3,}")
_GENERIC = frozenset(
    _WORD.findall(
        "page view search click form start submit product overview compare calculator faq guide rates from"
        " application clicks min left out desktop mobile tablet example personal help tools advice blog apply"
        " forms home the and for how what our with you your best login logout account unknown device visitor"
        " wanted filter scroll download element button nothing particular"
    )
)

Body = dict[str, Any]
Reply = tuple[int, dict[str, str], bytes]
HANG_UP: Reply = (0, {}, b"")
"""The connection ends without an answer."""
Server = TypeVar("Server", bound=ThreadingHTTPServer)
Misbehaviour = Callable[[int, Body], Reply | None]
"""(number of the request from 0 on, its body) to what is sent instead of a good answer; None: a good one."""


def topic_words(rendered: str) -> Counter[str]:
    """Words that say what a session is about, by the lines that have them; typed ones count twice."""
    counts: Counter[str] = Counter()
    for line in rendered.splitlines()[1:]:
        for word in set(_WORD.findall(line.lower())) - _GENERIC:
            counts[word] += 2 if '"' in line else 1
    return counts


def answer(system: str, user: str) -> dict[str, Any]:
    """What a careful reader with few ideas would say."""
    if '"wanted"' in system:
        return {"sessions": [{"id": i, "wanted": _summary(text)} for i, text in _SESSION.findall(user)]}
    if '"only_a"' in system:
        a, b = (_listed(part) for part in user.split("Only in B:"))
        said = zip(("only_a", "only_b"), ("label_a", "label_b"), (a, b), strict=True)
        return {key: text for line, label, own in said for key, text in ((line, own[0]), (label, _name(own)))}
    if '"line"' in system:
        label = system.partition('"')[2].partition('"')[0].lower()
        return {"line": max(user.splitlines()[1:-1], key=lambda line: label in _WORD.findall(line))}
    if '"evidence"' in system and '"sessions"' not in system:
        lines = _listed(user)
        return {"evidence": lines[0], "label": _name(lines), "description": f"They see {_name(lines)}."}
    if '"sessions"' in system:
        intents = {i: set(_WORD.findall(said.lower())) - _GENERIC for i, said in _INTENT.findall(user)}
        return {
            "sessions": [{"id": i, "intents": _labels(text, intents)} for i, text in _SESSION.findall(user)]
        }
    listed = [label for label, _ in _INTENT.findall(user.partition("<summaries>")[0])]
    if '"label"' in system and '"description"' not in system and '"parents"' not in system:
        return {"label": user.removeprefix("- ").splitlines()[0]}
    if '"parents"' in system:
        halves = listed[::2], listed[1::2]
        return {
            "parents": [
                {"label": f"Group {g}", "intents": each} for g, each in zip("AB", halves, strict=True)
            ]
        }
    return {
        "intents": [
            {"label": label, "description": f"About {label.lower()}"} for label in _draft(listed, user)
        ]
    }


def _listed(user: str) -> list[str]:
    return [line for line, _ in _LINE.findall(user)]


def _name(lines: list[str]) -> str:
    return _WORD.findall(lines[0].lower())[-1]


def _summary(text: str) -> str:
    best = topic_words(text).most_common(1)
    return f"The visitor wanted {best[0][0]}" if best else "The visitor wanted nothing in particular"


def _draft(listed: list[str], user: str) -> list[str]:
    said = Counter(
        word
        for line in user.partition("<summaries>")[2].splitlines()
        for word in set(_WORD.findall(line.lower())) - _GENERIC
    )
    labels = [*listed, *(word.capitalize() for word, times in said.most_common() if times >= 2)]
    return list(dict.fromkeys(labels))[:20] or ["Anything"]


def _labels(text: str, intents: dict[str, set[str]]) -> list[dict[str, str]]:
    words = topic_words(text)
    score = {i: max((words[w] for w in said), default=0) for i, said in intents.items() if i != "other"}
    ranked = sorted(score, key=lambda i: -score[i])
    chosen = [i for i in ranked[:2] if score[i] and score[i] >= 0.8 * score[ranked[0]]]
    shown = [{"intent": i, "evidence": max(intents[i], key=lambda w: words[w])} for i in chosen]
    return shown or [{"intent": "other", "evidence": ""}]


def completion(text: str | None, finish: str = "stop", tool: bool = False, tokens: int | None = 100) -> Reply:
    """A chat completion with this text, as content or as a tool call's arguments."""
    message: dict[str, Any] = {"role": "assistant", "content": None if tool else text}
    if tool:
        message["tool_calls"] = [
            {"id": "1", "type": "function", "function": {"name": "f", "arguments": text}}
        ]
    body: dict[str, Any] = {"id": "1", "object": "chat.completion", "model": "rules", "created": 0}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    body |= {} if tokens is None else {"usage": {"total_tokens": tokens}}
    return as_json(200, body)


def as_json(status: int, body: Any, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/json", **named}, json.dumps(body).encode()


class RuleEndpoint(ThreadingHTTPServer):
    """Listens on a port of its own; keeps what it was sent."""

    daemon_threads = True
    handler: type[BaseHTTPRequestHandler]

    def __init__(self, port: int = 0, misbehave: Misbehaviour | None = None) -> None:
        super().__init__(("127.0.0.1", port), self.handler)
        self.misbehave = misbehave or (lambda _number, _body: None)
        self.bodies: list[Body] = []
        self.headers: list[dict[str, str]] = []
        self.lock = Lock()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def reply(self, body: Body, headers: dict[str, str]) -> Reply:
        with self.lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append(headers)
        return self.answer(number, body)

    def answer(self, number: int, body: Body) -> Reply:
        wrong = self.misbehave(number, body)
        if wrong is not None:
            return wrong
        said = {message["role"]: message["content"] for message in body["messages"][:2]}
        return completion(json.dumps(answer(said["system"], said["user"])), tool="tools" in body)


class ChatHandler(BaseHTTPRequestHandler):
    server: Any
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send(self.server.reply(body, {name.lower(): value for name, value in self.headers.items()}))

    def send(self, reply: Reply) -> None:
        status, headers, content = reply
        if status == HANG_UP[0]:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


RuleEndpoint.handler = ChatHandler


@contextmanager
def serving(misbehave: Misbehaviour | None = None) -> Iterator[RuleEndpoint]:
    with running(RuleEndpoint(misbehave=misbehave)) as server:
        yield server


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = Thread(target=lambda: server.serve_forever(poll_interval=0.05), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    RuleEndpoint(int(sys.argv[1])).serve_forever()
