"""Who is let in, without a browser."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from streamer.errors import UsageError
from streamer.settings import UiSettings
from streamer.ui.gate import Gate
from streamer.ui.server import check_exposure

TOKEN = "right-token-0123456789"


async def _page(scope: Any, _: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the page"})


def ask(kind: str = "http", path: str = "/", query: str = "", **headers: str) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    encoded = [
        (name.encode(), value.encode()) for name, value in {"host": "127.0.0.1:8090", **headers}.items()
    ]
    scope = {"type": kind, "path": path, "query_string": query.encode(), "headers": encoded}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    asyncio.run(Gate(_page, TOKEN, "page")(scope, receive, send))
    return sent


def headers_of(answer: list[dict[str, Any]]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in answer[0]["headers"]}


def test_a_link_with_the_token_leads_to_the_page_without_it() -> None:
    answer = ask(path="/sessions/a b", query=f"x=1&token={TOKEN}")
    headers = headers_of(answer)
    assert (answer[0]["status"], headers["location"]) == (303, "/sessions/a%20b?x=1")
    assert headers["set-cookie"] == f"page={TOKEN}; HttpOnly; SameSite=Lax; Path=/"
    assert headers["cache-control"] == "no-store"


def test_a_link_leads_nowhere_else() -> None:
    assert headers_of(ask(path="//elsewhere.example/x", query=f"token={TOKEN}"))["location"] == (
        "/elsewhere.example/x"
    )


@pytest.mark.parametrize(
    "cookie", ["", "page=", f"page={TOKEN}x", f"other={TOKEN}", "\x00=;=", f"page={TOKEN[:-1]}"]
)
def test_without_the_token_nobody_sees_anything(cookie: str) -> None:
    answer = ask(cookie=cookie)
    assert answer[0]["status"] == 403
    assert b"needs its token" in answer[1]["body"]
    assert TOKEN.encode() not in answer[1]["body"]
    assert ask("websocket", cookie=cookie)[0]["type"] == "websocket.close"


def test_a_wrong_token_is_told_and_not_repeated() -> None:
    answer = ask(query="token=wrong-one", cookie="")
    assert answer[0]["status"] == 403
    assert b"not the token" in answer[1]["body"]
    assert b"wrong-one" not in answer[1]["body"]


def test_with_the_cookie_the_page_is_served_with_a_policy_that_lets_nothing_in_from_elsewhere() -> None:
    answer = ask(cookie=f"a=b; page={TOKEN}")
    assert answer[1]["body"] == b"the page"
    assert headers_of(answer)["content-security-policy"].startswith("default-src 'self'")


def test_a_page_of_another_server_gets_no_websocket() -> None:
    cookie = f"page={TOKEN}"
    for origin, kind in (
        ("http://127.0.0.1:8090", "accept"),
        ("http://127.0.0.1:9000", "close"),
        ("null", "close"),
    ):
        assert ask("websocket", cookie=cookie, origin=origin)[0]["type"] == f"websocket.{kind}"


def test_beyond_this_machine_the_page_needs_a_token_that_somebody_has_chosen() -> None:
    check_exposure(UiSettings())
    with pytest.raises(UsageError, match=r"ui\.host = 0\.0\.0\.0.*ui\.token_file"):
        check_exposure(UiSettings(host="0.0.0.0"))
    check_exposure(UiSettings(host="0.0.0.0", token=SecretStr(TOKEN)))
    for bad in ("short", "with space 0123456789", "semi;colon-0123456789"):
        with pytest.raises(UsageError, match=r"ui\.token: \d+ characters that are no token") as caught:
            check_exposure(UiSettings(token=SecretStr(bad)))
        assert bad not in str(caught.value)
