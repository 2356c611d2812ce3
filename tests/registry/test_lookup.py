"""What becomes of a schema that isn't at hand, in whatever way the registry answers or doesn't."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trustme

from streamer.kafka.client import TlsFileError
from streamer.pipeline.registered import RegisteredSchema
from streamer.registry.client import MAX_REFERENCES, RegistryAwayError, RegistryError
from streamer.registry.lookup import SchemaLookup
from streamer.schemas import codec
from streamer.settings import RegistrySettings, SettingsError, load_settings
from tests.registry.fake import Answer, FakeRegistry

ID = b"\0\0\0\0\x2a"
GUID = UUID("89791762-2336-186f-9674-988a1f6ab76b")
RECORD = {"type": "record", "name": "Event", "fields": [{"name": "visitor_id", "type": "string"}]}
FOUND = {"schema": json.dumps(RECORD)}


def learnt(registry: FakeRegistry, prefix: bytes = ID, **more: Any) -> RegisteredSchema:
    """The schema of this prefix, as it is at hand after it was asked for."""

    async def learn() -> RegisteredSchema:
        async with registry.running():
            lookup = SchemaLookup(registry.settings(**more), patience_s=0)
            await lookup.learn(prefix)
            assert lookup.registered is not None
            return lookup.registered.read(prefix + b"\2v")[0]

    return asyncio.run(learn())


@pytest.mark.parametrize(
    ("prefix", "path"), [(ID, "schemas/ids/42"), (b"\1" + GUID.bytes, f"schemas/guids/{GUID}")]
)
def test_a_schema_is_asked_for_by_number_or_guid(prefix: bytes, path: str) -> None:
    registry = FakeRegistry({path: (200, FOUND)})
    assert json.loads(learnt(registry, prefix).text(b"\2v")) == {"visitor_id": "v"}


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        ({}, None),
        ({"username": "me", "password": "secret"}, "Basic bWU6c2VjcmV0"),
        ({"token": "secret"}, "Bearer secret"),
    ],
)
def test_credentials_go_with_every_request(credentials: dict[str, str], header: str | None) -> None:
    registry = FakeRegistry({"schemas/ids/42": (200, FOUND)})
    learnt(registry, **credentials)
    assert [request.headers.get("Authorization") for request in registry.asked] == [header]


def test_what_a_schema_refers_to_is_fetched_with_it() -> None:
    def referring(name: str, to: str | None) -> dict[str, Any]:
        inner = f"shop.{to}" if to else "string"
        schema = {"type": "record", "name": f"shop.{name}", "fields": [{"name": "f", "type": inner}]}
        references = [{"name": f"shop.{to}", "subject": f"shop/{to}", "version": 3}] if to else []
        return {"schema": json.dumps(schema), "schemaType": "AVRO", "references": references}

    registry = FakeRegistry(
        {
            "schemas/ids/42": (200, referring("Event", "Page")),
            "subjects/shop/Page/versions/3": (200, referring("Page", "Title")),
            "subjects/shop/Title/versions/3": (200, referring("Title", None)),
        }
    )
    assert json.loads(learnt(registry).text(b"\2v")) == {"f": {"f": {"f": "v"}}}
    assert "shop%2FPage" in registry.asked[1].raw_path


def test_references_without_end_are_refused() -> None:
    many = [{"name": "n", "subject": f"s{n}", "version": 1} for n in range(MAX_REFERENCES + 1)]
    answers: dict[str, Answer] = {f"subjects/s{n}/versions/1": (200, {"schema": '"int"'}) for n in range(200)}
    registry = FakeRegistry(answers | {"schemas/ids/42": (200, FOUND | {"references": many})})
    with pytest.raises(codec.CodecError, match=f"more than {MAX_REFERENCES} others"):
        learnt(registry)


def test_a_schema_that_refers_to_what_is_not_there_is_unusable() -> None:
    gone = [{"name": "n", "subject": "gone", "version": 1}]
    registry = FakeRegistry({"schemas/ids/42": (200, FOUND | {"references": gone})})
    with pytest.raises(codec.CodecError, match="no version 1 of subject 'gone'"):
        learnt(registry)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, {}), r"refuses us \(HTTP 401\): check registry.username"),
        ((403, {}), r"HTTP 403"),
        ((200, "<html>please log in</html>"), "not as a schema registry"),
        ((404, "<html>no such page</html>"), "not as a schema registry"),
        ((404, {"detail": "no such page"}), "not as a schema registry"),
        ((404, {"error_code": 404, "message": "no such page"}), "not as a schema registry"),
        ((400, {"error_code": 400, "message": "strange"}), "HTTP 400: strange"),
        ((200, {"message": "hello"}), "without a schema"),
        ((200, [1]), "without a schema"),
    ],
)
def test_a_registry_that_refuses_or_is_none_ends_the_work(answer: Answer, said: str) -> None:
    with pytest.raises(RegistryError, match=said) as refused:
        learnt(FakeRegistry({"schemas/ids/42": answer}))
    assert not isinstance(refused.value, RegistryAwayError)


@pytest.mark.parametrize(
    ("prefix", "answer"),
    [
        (ID, (404, {"error_code": 40403, "message": "none"})),
        (b"\1" + GUID.bytes, (404, "")),
        (b"\0\xff\xff\xff\xff", (500, "what no registry should be asked")),
    ],
)
def test_what_the_registry_does_not_have_is_unknown(prefix: bytes, answer: Answer) -> None:
    path = "schemas/ids/42" if prefix == ID else f"schemas/guids/{GUID}"
    with pytest.raises(codec.CodecError, match="the registry has no schema"):
        learnt(FakeRegistry({path: answer}), prefix)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_command_gives_up_on_a_registry_that_stays_away(status: int) -> None:
    with pytest.raises(RegistryAwayError, match=f"answers HTTP {status}"):
        learnt(FakeRegistry({"schemas/ids/42": (status, {})}))


def test_a_registry_that_is_away_is_waited_for_and_told_of() -> None:
    registry = FakeRegistry({"schemas/ids/42": (200, FOUND)})

    async def wait() -> list[str]:
        outcomes: list[str] = []
        lookup = SchemaLookup(registry.settings(), observe=outcomes.append)
        assert lookup.not_ready() == []
        learning = asyncio.ensure_future(lookup.learn(ID))
        while not (lookup.waiting_s or learning.done()):  # noqa: ASYNC110, there is no event for it
            await asyncio.sleep(0.01)
        (why,) = lookup.not_ready()
        assert "doesn't answer (ClientConnectorError)" in why
        async with registry.running():
            await learning
        assert lookup.not_ready() == []
        assert lookup.waiting_s == 0
        return outcomes

    outcomes = asyncio.run(wait())
    assert outcomes[-1] == "found"
    assert set(outcomes[:-1]) == {"failed"}


def test_nobody_waits_for_a_schema_that_is_not_wanted_any_more() -> None:
    async def wait() -> None:
        lookup = SchemaLookup(FakeRegistry({}).settings())
        await lookup.learn(ID, still_wanted=lambda: not lookup.waiting_s)
        assert lookup.not_ready() == []

    asyncio.run(wait())


def test_an_id_that_the_registry_does_not_know_is_asked_for_again_later() -> None:
    registry = FakeRegistry({})

    async def learn() -> list[str]:
        outcomes: list[str] = []
        lookup = SchemaLookup(registry.settings(), observe=outcomes.append, forget_after_s=0)
        assert lookup.registered is not None
        async with registry.running():
            await lookup.learn(ID)
            with pytest.raises(codec.CodecError, match="no schema 42"):
                lookup.registered.read(ID)
            await asyncio.sleep(0.01)
            registry.answers["schemas/ids/42"] = (200, FOUND)
            await lookup.learn(ID)
            lookup.registered.read(ID)
        return outcomes

    assert asyncio.run(learn()) == ["unknown", "found"]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pem(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    client = authority.issue_cert("client@example.com")
    for name, blob in (
        ("ca", authority.cert_pem),
        ("cert", client.cert_chain_pems[0]),
        ("key", client.private_key_pem),
    ):
        blob.write_to_path(tmp_path / name)
    return {name: str(tmp_path / name) for name in ("ca", "cert", "key")}


def over_tls(authority: trustme.CA, **more: Any) -> None:
    registry = FakeRegistry({"schemas/ids/42": (200, FOUND)})
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    async def learn() -> None:
        async with registry.running(context):
            url = f"https://127.0.0.1:{registry.port}"
            await SchemaLookup(RegistrySettings(url=url, **more), patience_s=0).learn(ID)

    asyncio.run(learn())


def test_tls_with_an_authority_and_a_certificate_of_ones_own(
    authority: trustme.CA, pem: dict[str, str]
) -> None:
    own = {"ssl_certificate_location": pem["cert"], "ssl_key_location": pem["key"]}
    over_tls(authority, ssl_ca_location=pem["ca"], **own)
    with pytest.raises(RegistryAwayError, match="Certificate"):
        over_tls(authority, **own)
    with pytest.raises(TlsFileError, match=r"registry\.ssl_ca_location = /nowhere: no such file"):
        over_tls(authority, ssl_ca_location="/nowhere")


def test_an_empty_address_is_no_registry() -> None:
    assert load_settings(overrides={"registry.url": ""}, environ={}).registry.url is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"registry.url": "registry:8081"}, "expected an address such as https://"),
        ({"registry.url": "http://me:secret@registry"}, "user and password have settings of their own"),
        ({"registry.username": "me"}, "registry.username and registry.password go together"),
        (
            {"registry.username": "me", "registry.password": "secret", "registry.token": "secret"},
            "registry.token takes the place of registry.username",
        ),
        ({"registry.ssl_key_location": "key"}, "needs registry.ssl_certificate_location"),
        ({"registry.timeout_s": 0, "registry.password": "secret", "registry.username": "me"}, "greater than"),
    ],
)
def test_bad_settings_are_explained_without_their_secrets(given: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said) as refused:
        load_settings(overrides=given, environ={})
    assert "secret" not in str(refused.value)
