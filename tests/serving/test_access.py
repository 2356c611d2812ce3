"""Who is let in: tokens, certificates, rates, and a service that nobody has protected."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import trustme

from streamer.errors import UsageError
from streamer.serving.access import Access, parsed_tokens
from streamer.serving.problems import Refusal
from streamer.serving.server import check_exposure
from streamer.settings import ServeSettings
from tests.client.records import a_message
from tests.conftest import FreshSettings, RunStreamer
from tests.serving.live import Service, own_topics, publish, serving

OLD, NEW = "old-token-0123456789", "new-token-0123456789"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def of_a_caller(authority: trustme.CA, certified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certified:
        authority.issue_cert("ranking.bank.example").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def guarded(
    bootstrap: str, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """With tokens, TLS and callers' certificates."""
    folder = tmp_path_factory.mktemp("tls")
    own = authority.issue_cert("127.0.0.1")
    own.private_key_and_cert_chain_pem.write_to_path(str(folder / "own.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "tokens").write_text(f"# of ranking\n{OLD}\n\n{NEW}\n")
    tokens = {"STREAMER_SERVE__TOKENS_FILE": str(folder / "tokens")}
    settings = own_topics(
        bootstrap,
        identity__enabled=False,
        serve__ssl_certificate_location=str(folder / "own.pem"),
        serve__ssl_ca_location=str(folder / "ca.pem"),
    )
    publish(settings, settings.topics.visitors, [a_message("v1"), a_message("v2")])
    with serving(settings, tls=of_a_caller(authority, certified=True), environ=tokens) as service:
        service.wait_for('"ready"')
        yield service


def test_tokens_let_in_and_nothing_else_does(guarded: Service) -> None:
    for token in (OLD, NEW):
        assert guarded.get("visitors", "v1", Authorization=f"Bearer {token}").status == 200
    for wrong in (
        {},
        {"Authorization": f"Basic {OLD}"},
        {"Authorization": f"Bearer {OLD}x"},
        {"Authorization": "Bearer \xff"},
    ):
        refused = guarded.get("visitors", "v1", **wrong)
        assert (refused.status, refused.code) == (401, "no_token")
        assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert guarded.batch("visitors", ["v1"]).status == 401
    assert guarded.request("/readyz").status == 200
    assert guarded.request("/openapi.json").json["security"] == [{"bearer": []}]
    assert OLD not in guarded.log


def test_without_identity_no_customers_are_served(guarded: Service) -> None:
    assert guarded.get("users", "u1", Authorization=f"Bearer {OLD}").code == "no_such_path"


def test_a_caller_needs_a_certificate(guarded: Service, authority: trustme.CA) -> None:
    connection = http.client.HTTPSConnection(
        "127.0.0.1", guarded.port, timeout=20, context=of_a_caller(authority, certified=False)
    )
    with pytest.raises((ssl.SSLError, ConnectionError)):  # with TLS 1.3 it is told by the first answer
        answered(connection)
    connection.close()


def answered(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/livez")
    return connection.getresponse().status


def test_a_token_has_a_rate_of_its_own() -> None:
    async def run() -> None:
        access = Access([OLD, NEW], rate_limit=3)
        old, new = (access.caller({"Authorization": f"bearer {token}"}) for token in (OLD, NEW))
        for _ in range(3):
            access.admit(old, 1)
        with pytest.raises(Refusal, match="rate_limit") as refused:
            access.admit(old, 1)
        assert refused.value.answer().headers["Retry-After"] == "1"
        access.admit(new, 100)  # a batch beyond the rate takes it all, and isn't refused for ever
        with pytest.raises(Refusal):
            access.admit(new, 1)
        Access([], rate_limit=0).admit(b"", 10**9)

    asyncio.run(run())


@pytest.mark.parametrize(
    "text", ["", "# none\n", "short", f"{OLD}\nwith spaces in it", f"{OLD}\n" + "ü" * 20]
)
def test_tokens_that_are_none_are_refused_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError, match=r"serve\.tokens: ") as refused:
        parsed_tokens(text)
    assert not any(line and line in str(refused.value) for line in text.splitlines() if len(line) > 6)


@pytest.mark.parametrize(
    ("given", "is_refused"),
    [
        ({}, False),
        ({"host": "::1"}, False),
        ({"host": "0.0.0.0"}, True),
        ({"host": "0.0.0.0", "tokens": OLD}, False),
        ({"host": "0.0.0.0", "ssl_certificate_location": "own.pem"}, True),
        ({"host": "0.0.0.0", "ssl_certificate_location": "own.pem", "ssl_ca_location": "ca.pem"}, False),
        ({"host": "0.0.0.0", "anonymous": True}, False),
    ],
)
def test_others_than_this_machine_are_let_in_only_on_purpose(
    given: dict[str, object], is_refused: bool
) -> None:
    refused = pytest.raises(UsageError, match=r"serve\.host") if is_refused else nullcontext()
    with refused:
        check_exposure(ServeSettings.model_validate(given))


def test_a_wrong_call_ends_with_2_and_what_is_away_with_1(
    fresh_settings: FreshSettings, run_streamer: RunStreamer, tmp_path: Path
) -> None:
    settings = fresh_settings()
    for arguments, said in (
        (["serve", "--host", "0.0.0.0"], "serve.host = 0.0.0.0"),
        (["serve", "--partitions", "3-1"], "--partitions '3-1'"),
        (["--set", "serve.ssl_certificate_location=none.pem", "serve"], "none.pem: no such file"),
        (["--set", "serve.tokens=short", "serve"], "serve.tokens: line 1"),
    ):
        done = run_streamer(*arguments, settings=settings)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_streamer("serve", "--port", port, settings=settings)
        assert (done.returncode, f"can't listen on 127.0.0.1:{port}" in done.stderr) == (1, True)
    done = run_streamer("serve", "--port", "0", settings=settings)
    assert (done.returncode, "there is no topic" in done.stderr) == (1, True)
    nowhere = {"kafka.bootstrap_servers": "127.0.0.1:1", "kafka.connect_timeout_s": 1}
    away = run_streamer("serve", "--port", "0", settings=fresh_settings(nowhere))
    assert (away.returncode, "no Kafka broker answers" in away.stderr) == (1, True)
