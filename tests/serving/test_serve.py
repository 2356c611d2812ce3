"""The look-up service on a real broker, over real HTTP."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families

from streamer.client import UserState, UserView, VisitorState, VisitorView
from streamer.client.table import Reason
from streamer.kafka.partitions import hash_of
from streamer.serving.problems import CODES
from streamer.settings import Settings
from tests.client.records import a_message, a_record, a_user
from tests.conftest import ROOT, RunStreamer
from tests.serving.live import Service, own_topics, publish, serving
from tests.worker.live import ask, metric, wait_until

NOW_MS = int(time.time() * 1000)
ODD_IDS = ["a/b", "100%", "ü ñ", "x?y#z", "{id}", "+", "a+b c", "%2F", "visitors:batchGet", "é" * 128, '"\\']
VISITORS = [f"v{n}" for n in range(40)] + ODD_IDS
USERS = [f"u{n}" for n in range(20)] + ODD_IDS
DOCS = (ROOT / "docs" / "serving.md").read_text()


class Open(NamedTuple):
    """A service that asks for nothing."""

    settings: Settings
    service: Service


@pytest.fixture(scope="module")
def open_service(bootstrap: str) -> Iterator[Open]:
    settings = own_topics(bootstrap, serve__max_batch=60)
    spaces = ("space", "next")
    visitors = [
        a_message(v, NOW_MS - n, embedding_space=spaces[n % 2], embedding=[n / 7, -0.1])
        for n, v in enumerate(VISITORS)
    ]
    users = [
        a_user(u, *(a_record(f"b{k}", NOW_MS - n - k) for k in range(n % 3 + 1)), confidence=n % 2)
        for n, u in enumerate(USERS)
    ]
    publish(settings, settings.topics.visitors, [*visitors, a_message("gone"), (b"gone", None)])
    publish(settings, settings.topics.users, [*users, a_user("gone", a_record("b")), (b"gone", None)])
    with serving(settings) as service:
        service.wait_until_ready()
        yield Open(settings, service)


def test_answers_are_what_the_views_have(open_service: Open) -> None:
    settings, service = open_service
    with VisitorView(settings) as visitors, UserView(settings) as users:
        for key in VISITORS:
            state = visitors.get(key)
            assert state is not None
            for space in ("space", "next"):
                answer = service.get("visitors", key, f"?space={space}")
                assert_session(answer.json, state, state.embedding_for(space))
        for key in USERS:
            user = users.get(key)
            assert user is not None
            answer = service.get("users", key, "?space=space")
            assert_user(answer.json, user)
            assert abs(float(answer.headers["Record-Age"]) - (time.time() - user.closed_at / 1000)) < 5
            assert float(answer.headers["View-Age"]) < 20


def assert_session(record: dict[str, Any], state: VisitorState, vector: Any) -> None:
    apart = {"intents", "vector", "memberships", "prototypes_version", "reasons"}
    for name in set(VisitorState._fields) - apart:
        assert record[name] == getattr(state, name), name
    assert [each["intent_id"] for each in record["intents"]] == [each.intent_id for each in state.intents]
    assert [each["probability"] for each in record["intents"]] == [each.probability for each in state.intents]
    told = record.get("reasons")
    assert state.reasons == (None if told is None else tuple(Reason(**each) for each in told))
    assert_vector(record["embedding"], vector)
    assert_vector(record.get("memberships"), state.memberships)


def assert_user(record: dict[str, Any], state: UserState) -> None:
    for name in ("attribution", "confidence", "sessions", "visitors"):
        assert record[name] == getattr(state, name), name
    assert record["history"] == [each._asdict() for each in state.history]
    assert record["profile"] == [each._asdict() for each in state.profile]
    assert_vector(record["profile_embedding"], state.profile_for("space"))
    assert_session(record | {"user_id": state.latest.user_id}, state.latest, state.latest.vector)


def assert_vector(found: list[float] | None, vector: Any) -> None:
    assert (found is None) == (vector is None)
    if found is not None:
        np.testing.assert_array_equal(np.array(found, np.float32), vector)


def test_vectors_are_only_for_callers_that_name_their_space(open_service: Open) -> None:
    service = open_service.service
    assert "embedding" not in service.get("visitors", "v0").json
    assert "profile_embedding" not in service.get("users", "u1").json
    assert service.get("visitors", "v1", "?space=space").json["embedding"] is None
    refused = service.get("visitors", "v1", "?space=older")
    assert (refused.status, refused.code) == (400, "unknown_space")
    assert refused.json["spaces"] == ["next", "space"]


def test_an_answer_that_the_caller_has_is_not_sent_again(open_service: Open) -> None:
    settings, service = open_service
    publish(settings, settings.topics.visitors, [a_message("changes", NOW_MS)])
    wait_until(lambda: service.get("visitors", "changes").status == 200)
    etag = service.get("visitors", "changes").headers["ETag"]
    for known in (etag, f'"other", W/{etag}', "*"):
        again = service.get("visitors", "changes", If_None_Match=known)
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", etag)
    assert service.get("visitors", "changes", "?space=space", If_None_Match=etag).status == 200
    publish(settings, settings.topics.visitors, [a_message("changes", NOW_MS, revision=1)])
    wait_until(lambda: service.get("visitors", "changes", If_None_Match=etag).status == 200)
    assert service.get("visitors", "changes").headers["ETag"] != etag


@pytest.mark.parametrize(
    "path",
    ["v1", "v1?space=space", "v1?space=older", "%C3%BC%20%C3%B1", "%FF", "gone", "nobody", "..", "%zz"],
)
@pytest.mark.parametrize("known", ['"other"', "*"])
def test_an_answer_is_the_same_on_a_connection_that_stays_and_on_one_that_ends(
    open_service: Open, path: str, known: str
) -> None:
    stays, ends = (
        open_service.service.request(f"/v1/visitors/{path}", If_None_Match=known, **more)
        for more in ({}, {"Connection": "close"})
    )
    assert (stays.status, stays.body) == (ends.status, ends.body)
    assert ends.headers["Connection"] == "close"
    assert set(stays.headers) == set(ends.headers) - {"Connection"}
    apart = {"Date", "View-Age", "Record-Age"}
    for name in set(stays.headers) - apart:
        assert stays.headers[name] == ends.headers[name], name


@pytest.mark.parametrize("collection", ["visitors", "users"])
def test_who_was_erased_is_gone_and_who_never_was_is_unknown(open_service: Open, collection: str) -> None:
    service = open_service.service
    gone, unknown = service.get(collection, "gone"), service.get(collection, "nobody")
    assert (gone.status, gone.code) == (410, "erased")
    assert (unknown.status, unknown.code) == (404, "unknown_id")
    assert "gone" not in gone.body.decode()
    assert "nobody" not in unknown.body.decode()


def test_an_erasure_takes_effect_while_it_serves_and_a_new_record_ends_it(open_service: Open) -> None:
    settings, service = open_service
    message = a_message("back", NOW_MS)
    publish(settings, settings.topics.visitors, [message])
    wait_until(lambda: service.get("visitors", "back").status == 200)
    publish(settings, settings.topics.visitors, [(b"back", None)])
    wait_until(lambda: service.get("visitors", "back").status == 410)
    publish(settings, settings.topics.visitors, [message])
    wait_until(lambda: service.get("visitors", "back").status == 200)


def test_a_batch_answers_as_its_ids_would_one_by_one(open_service: Open) -> None:
    service = open_service.service
    ids = ["v3", "nobody", *ODD_IDS, "gone", "v3", "", "x" * 257]
    results = service.batch("visitors", ids, "?space=space").json["results"]
    assert [result["id"] for result in results] == ids
    for result in results[:-2]:
        alone = service.get("visitors", result["id"], "?space=space")
        assert result["status"] == alone.status
        assert result.get("record") == (alone.json if alone.status == 200 else None)
        assert result.get("code") == (alone.code if alone.status != 200 else None)
    assert [(result["status"], result["code"]) for result in results[-2:]] == [(400, "malformed_id")] * 2
    assert service.batch("users", []).json == {"results": []}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (json.dumps({"ids": ["v"] * 61}).encode(), 413, "batch_too_large"),
        (b'{"ids": ["' + b"x" * 1_000_000 + b'"]}', 413, "batch_too_large"),
        (b"", 400, "malformed_body"),
        (b"{}", 400, "malformed_body"),
        (b'{"ids": "secret"}', 400, "malformed_body"),
        (b'{"ids": ["secret", 7]}', 400, "malformed_body"),
        (b'{"ids": [], "secret": 1}', 400, "malformed_body"),
        (b'{"ids": ["\xff"]}', 400, "malformed_body"),
        (b"[" * 5000, 400, "malformed_body"),
    ],
)
def test_a_batch_that_is_none_is_refused(open_service: Open, body: bytes, status: int, code: str) -> None:
    refused = open_service.service.request("/v1/visitors:batchGet", body)
    assert (refused.status, refused.code) == (status, code)


def test_a_body_that_does_not_arrive_whole_is_the_callers_mistake(open_service: Open) -> None:
    service = open_service.service
    refused = service.request("/v1/visitors:batchGet", b'{"ids": ["v1"]}', Content_Encoding="gzip")
    assert (refused.status, refused.code) == (400, "malformed_body")
    before = metric(service.port, "streamer_lookups_total", view="visitors", outcome="malformed_body")
    with connected(service) as connection:
        connection.sendall(b"POST /v1/visitors:batchGet HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
    wait_until(
        lambda: (
            metric(service.port, "streamer_lookups_total", view="visitors", outcome="malformed_body")
            == before + 1
        )
    )
    assert "lookup_failed" not in service.log


def connected(service: Service) -> socket.socket:
    """For bytes that no library would send."""
    return socket.create_connection(("127.0.0.1", service.port), timeout=20)


@pytest.mark.parametrize("encoded", ["%FF", "%C3", quote("x" * 257), "%ED%A0%80"])
def test_an_id_that_can_be_none_is_refused(open_service: Open, encoded: str) -> None:
    refused = open_service.service.request(f"/v1/visitors/{encoded}")
    assert (refused.status, refused.code) == (400, "malformed_id")


def test_what_is_not_served_is_told(open_service: Open) -> None:
    service = open_service.service
    for path in ("/", "/v1/visitors", "/v1/visitors/", "/v1/visitors/a/b", "/v2/visitors/a"):
        assert (service.request(path).status, service.request(path).code) == (404, "no_such_path")
    refused = service.request("/v1/visitors/v1", method="DELETE")
    assert (refused.status, refused.code, refused.headers["Allow"]) == (405, "method_not_allowed", "GET,HEAD")
    assert service.request("/v1/visitors/v1", method="HEAD").body == b""
    assert service.request("/livez").headers["Server"] == "streamer"


def test_health_and_metrics_are_told_and_documented(open_service: Open) -> None:
    service = open_service.service
    before = metric(service.port, "streamer_lookups_total", view="visitors", outcome="found")
    service.get("visitors", "v0")
    service.batch("visitors", ["v0", "v1", "nobody"])
    assert metric(service.port, "streamer_lookups_total", view="visitors", outcome="found") == before + 3
    assert metric(service.port, "streamer_view_records", view="users") == len(USERS)
    assert metric(service.port, "streamer_view_erased", view="users") == 1
    assert ask(service.port, "/livez") == (200, '{"ok": true, "reasons": []}')
    families = text_string_to_metric_families(ask(service.port, "/metrics")[1])
    ours = [f.name for f in families if f.name.startswith("streamer_") and not f.name.endswith("_created")]
    assert [name for name in ours if f"`{name}" not in DOCS] == []
    assert [code.name for code in CODES if f"| `{code.name}` | {code.status} |" not in DOCS] == []


def test_the_openapi_document_is_valid_and_says_what_is_answered(open_service: Open) -> None:
    service = open_service.service
    document = service.request("/openapi.json").json
    validate(document)
    for path in document["paths"]:
        tried = path.format(id="v1")
        answer = service.batch("visitors", ["v1"]) if tried.endswith(":batchGet") else service.request(tried)
        assert answer.status in (200, 404), path

    def check(schema: str, value: Any) -> None:
        Draft202012Validator({"$ref": f"#/components/schemas/{schema}", **document}).validate(value)

    for query in ("", "?space=space", "?space=next"):
        check("VisitorIntent", service.get("visitors", "v1", query).json)
    check("UserIntent", service.get("users", "u1", "?space=space").json)
    check("Problem", service.get("visitors", "gone").json)
    check("Health", service.request("/readyz").json)
    results = document["paths"]["/v1/users:batchGet"]["post"]["responses"]["200"]
    schema = results["content"]["application/json"]["schema"]
    body = service.batch("users", ["u1", "gone"]).json
    Draft202012Validator({**schema, "components": document["components"]}).validate(body)


def test_nothing_is_logged_that_says_who_was_looked_up(open_service: Open) -> None:
    service = open_service.service
    service.get("visitors", "who-is-this")
    service.request("/v1/visitors/who-is-this%FF")
    service.request("/v1/visitors:batchGet", b'{"ids": ["who-is-this", 1]}')
    for not_http in (
        "GET /v1/visitors/who-is-this-ü HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v1/visitors/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer who-is-this\0\r\n\r\n",
        "POST /v1/visitors:batchGet HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nwho-is-this\r\n\r\n",
    ):
        with connected(service) as connection:
            connection.sendall(not_http.encode())
            assert connection.makefile("rb").readline() == b"HTTP/1.0 400 Bad Request\r\n"
    assert "who-is-this" not in service.log
    assert "v1/visitors" not in service.log


def test_a_share_answers_for_its_partitions_and_names_them_for_others(open_service: Open) -> None:
    settings, _ = open_service
    with serving(settings, "--partitions", "1") as service:
        service.wait_until_ready()
        here = {key: hash_of(key.encode()) % 2 == 1 for key in USERS}
        for key, is_here in here.items():
            answer = service.get("users", key)
            assert answer.status == (200 if is_here else 421)
            if not is_here:
                assert (answer.code, answer.json["partitions"]) == ("other_partition", [1])
        for key in VISITORS:  # whose partition is that of their clicks, which the key doesn't tell
            answer = service.get("visitors", key)
            is_here = hash_of(key.encode()) % 2 == 1
            assert answer.status == (200 if is_here else 404)
            assert is_here or answer.json["partitions"] == [1]
        statuses = {result["status"] for result in service.batch("users", USERS).json["results"]}
        assert statuses == {200, 421}


def test_partitions_that_are_not_there_end_it(open_service: Open, run_streamer: RunStreamer) -> None:
    done = run_streamer("serve", "--port", "0", "--partitions", "0-2", settings=open_service.settings)
    assert (done.returncode, done.stdout) == (2, "")
    assert "partitions [2]" in done.stderr


def test_once_stopped_it_says_so_and_answers_until_load_balancers_know(open_service: Open) -> None:
    settings = open_service.settings
    slow = settings.model_copy(update={"serve": settings.serve.model_copy(update={"drain_s": 3.0})})
    service = Service(slow)
    service.wait_until_ready()
    assert "Connection" not in service.get("visitors", "v1").headers
    service.signal(signal.SIGTERM)
    wait_until(lambda: ask(service.port, "/readyz") == (503, '{"ok": false, "reasons": ["stopping"]}'))
    answer = service.get("visitors", "v1")
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert service.end() == 0, service.log
    assert ask(service.port, "/livez")[0] == 0


def test_it_is_not_ready_when_brokers_have_not_answered_for_long(open_service: Open) -> None:
    settings = open_service.settings
    at_once = settings.model_copy(update={"serve": settings.serve.model_copy(update={"max_age_s": 0.001})})
    with serving(at_once) as service:
        wait_until(lambda: "no broker has answered" in ask(service.port, "/readyz")[1])
        # What is old may be the view of customers, while that of visitors is still being read.
        wait_until(lambda: service.get("visitors", "v1").status == 200)
