"""Whose vectors are nearest: indexes that follow a view's records, held against looking at every record."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from streamer.models.explain import nearest
from streamer.serving.exact import most_similar
from streamer.serving.neighbours import Neighbours, SpaceIndex
from streamer.serving.records import RecordView, UserRecordView, VisitorRecordView
from streamer.settings import Settings
from tests.client.records import NOW_MS, a_message, a_record, a_user
from tests.conftest import ROOT, RunStreamer
from tests.serving.live import Service, own_topics, publish, serving
from tests.worker.live import ask, metric, wait_until

CLOSED_AT = int(time.time() * 1000)
VECTORS = st.lists(st.floats(-1, 1, width=16), min_size=3, max_size=3)


def followed(kind: type[RecordView] = VisitorRecordView) -> tuple[RecordView, Neighbours]:
    """A view without a topic, and the indexes of what it holds."""
    view = kind(Settings(), now=lambda: NOW_MS / 1000)
    view.records.follow()
    return view, Neighbours(view)


def catch_up(view: RecordView, neighbours: Neighbours) -> None:
    while changed := view.records.changes(2):
        neighbours.take((key, view.get(key)) for key in changed)
        neighbours.renew()


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdefgh"),
            st.none() | st.tuples(st.integers(0, 3), VECTORS, st.sampled_from(["space", "next"])),
        ),
        max_size=40,
    ),
    st.integers(1, 7),
)
def test_indexes_hold_exactly_what_the_view_holds(
    log: list[tuple[str, tuple[int, list[float], str] | None]], every: int
) -> None:
    view, neighbours = followed()
    for number, (visitor, change) in enumerate(log):
        message: tuple[bytes, bytes | None] = (visitor.encode(), None)
        if change is not None:
            later, vector, space = change
            message = a_message(visitor, NOW_MS - later, embedding=vector, embedding_space=space)
        view.records.apply(*message)
        if number % every == 0:
            catch_up(view, neighbours)
    catch_up(view, neighbours)
    vectors = {
        key: (stored.embedding_space, vector)
        for key, stored in view.records.items()
        if (vector := view.table.vector_of(stored.decoded())) is not None
    }
    assert neighbours.spaces == sorted({space for space, _ in vectors.values()})
    assert sorted(neighbours.keys) == sorted(vectors)
    for key, (space, vector) in vectors.items():
        exact = most_similar(view.records, key, space, vector, 8)
        found = neighbours.nearest(key, space, vector, 8)
        assert {each.id for each in found} == {each.key for each in exact}
        np.testing.assert_allclose(
            [each.cosine for each in found], [each.cosine for each in exact], atol=0.005
        )


def test_an_index_that_is_built_anew_holds_what_it_held_and_what_comes_meanwhile() -> None:
    dice = np.random.default_rng(1)
    index, held = SpaceIndex(4), {}

    def put(label: int) -> None:
        held[label] = dice.normal(size=4).astype(np.float32)
        index.add([(label, str(label), held[label])])

    def remove(label: int) -> None:
        index.remove(label)
        del held[label]

    for label in range(100):
        put(label)
    assert not index.renew()
    for label in range(40):
        remove(label)
    steps = 0
    while index.renew():
        steps += 1
        put(1000 + steps)
        remove(100 - steps)  # some that were moved already, and some that were not
        if steps == 2:
            back = held[50]
            remove(50)
            held[50] = back
            index.add([(50, "50", back)])
    assert steps > 2
    assert len(index) == len(held)
    for vector in held.values():
        _, cosines = nearest(vector, np.stack(list(held.values())), 5)
        found = index.search(vector, 5)
        assert held.keys() >= {int(each.id) for each in found}
        np.testing.assert_allclose([each.cosine for each in found], cosines, atol=0.005)


def test_customers_are_near_by_their_profiles() -> None:
    view, neighbours = followed(UserRecordView)
    here, there = a_record("v", embedding=[1.0, 0.0]), a_record("w", embedding=[0.0, 1.0])
    for message in (a_user("one", here), a_user("like-one", here), a_user("other", there)):
        view.records.apply(*message)
    view.records.apply(*a_user("without", here, confidence=0))
    catch_up(view, neighbours)
    found = neighbours.nearest("one", "space", np.array([1, 0], np.float32), 5)
    assert [(each.id, round(each.cosine, 3)) for each in found] == [("like-one", 1), ("other", 0)]


def test_robots_are_nobodys_neighbours() -> None:
    view, neighbours = followed()
    view.records.apply(*a_message("v"))
    view.records.apply(*a_message("bot", is_bot=True))
    catch_up(view, neighbours)
    assert neighbours.keys == ["v"]
    assert most_similar(view.records, "x", "space", np.array([1, 0.5], np.float32), 5)[0].key == "v"
    assert len(most_similar(view.records, "x", "space", np.array([1, 0.5], np.float32), 5)) == 1


def test_who_has_left_the_view_is_not_returned_even_before_the_index_knows() -> None:
    view, neighbours = followed()
    for visitor in "abc":
        view.records.apply(*a_message(visitor))
    catch_up(view, neighbours)
    view.records.apply(b"b", None)
    found = neighbours.nearest("a", "space", np.array([1, 0.5], np.float32), 5)
    assert [each.id for each in found] == ["c"]


def test_a_vector_of_another_length_is_nobodys_neighbour() -> None:
    view, neighbours = followed()
    view.records.apply(*a_message("a"))
    catch_up(view, neighbours)
    view.records.apply(*a_message("b", embedding=[1.0, 2.0, 3.0]))
    catch_up(view, neighbours)
    assert neighbours.keys == ["a"]
    assert neighbours.nearest("b", "space", np.ones(3, np.float32), 5) == []


class Open(NamedTuple):
    settings: Settings
    service: Service


@pytest.fixture(scope="module")
def similar_service(bootstrap: str) -> Iterator[Open]:
    settings = own_topics(bootstrap, serve__similar=True, serve__max_batch=20)
    dice = np.random.default_rng(5)

    def vector() -> list[float]:
        return [float(each) for each in dice.normal(size=4)]

    spaces = ("space", "next")
    visitors = [
        a_message(
            f"v/{n}",
            CLOSED_AT - n,
            session_id=f"{n:032x}",
            embedding=vector(),
            embedding_space=spaces[n % 3 == 2],
        )
        for n in range(60)
    ]
    users = [a_user(f"u{n}", a_record("v", CLOSED_AT - n, embedding=vector())) for n in range(40)]
    users += [a_user("without", a_record("v", CLOSED_AT), confidence=0)]
    publish(settings, settings.topics.visitors, [*visitors, a_message("gone"), (b"gone", None)])
    publish(settings, settings.topics.users, [*users, a_user("gone", a_record("b")), (b"gone", None)])
    with serving(settings) as service:
        service.wait_until_ready()
        yield Open(settings, service)


def test_service_and_command_name_the_same(similar_service: Open, run_streamer: RunStreamer) -> None:
    settings, service = similar_service
    for call, collection, key, name in (
        (["u3"], "users", "u3", "user_id"),
        (["v/3", "--as", "visitor"], "visitors", "v/3", "visitor_id"),
        ([f"{5:032x}"], "visitors", "v/5", "visitor_id"),
    ):
        answer = service.request(f"/v1/{collection}/{key.replace('/', '%2F')}/similar?count=7").json
        done = run_streamer("similar", *call, "--count", "7", "--json", settings=settings)
        assert done.returncode == 0, done.stderr
        exact = json.loads(done.stdout)
        assert exact["space"] == answer["space"] == ("next" if key == "v/5" else "space")
        assert [each["id"] for each in answer["similar"]] == [each[name] for each in exact["similar"]]
        assert [each["cosine"] for each in answer["similar"]] == pytest.approx(
            [each["cosine"] for each in exact["similar"]], abs=0.005
        )
        assert len(exact["similar"]) == 7


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("users/nobody/similar", 404, "unknown_id"),
        ("users/gone/similar", 410, "erased"),
        ("users/without/similar", 409, "no_vector"),
        ("visitors/v%2F2/similar?space=space", 409, "no_vector"),
        ("visitors/v%2F2/similar?space=older", 400, "unknown_space"),
        ("users/u1/similar?count=0", 400, "malformed_count"),
        ("users/u1/similar?count=21", 400, "malformed_count"),
        ("users/u1/similar?count=x", 400, "malformed_count"),
        ("users/%FF/similar", 400, "malformed_id"),
        ("users/u1/other", 404, "no_such_path"),
    ],
)
def test_what_has_no_neighbours_is_told(similar_service: Open, path: str, status: int, code: str) -> None:
    refused = similar_service.service.request(f"/v1/{path}")
    assert (refused.status, refused.code) == (status, code)


def test_the_openapi_document_says_what_is_answered(similar_service: Open) -> None:
    service = similar_service.service
    document = service.request("/openapi.json").json
    validate(document)
    described = document["paths"]["/v1/users/{id}/similar"]["get"]["responses"]["200"]
    schema = described["content"]["application/json"]["schema"]
    Draft202012Validator(schema).validate(service.request("/v1/users/u1/similar").json)
    metrics = ask(service.port, "/metrics")[1]
    ours = {line.split("{")[0] for line in metrics.splitlines() if line.startswith("streamer_neighbour")}
    assert len(ours) == 3
    docs = (ROOT / "docs" / "serving.md").read_text()
    assert [name for name in sorted(ours) if f"`{name}`" not in docs] == []


def test_live_spaces_are_named(similar_service: Open) -> None:
    refused = similar_service.service.request("/v1/visitors/v%2F2/similar?space=older")
    assert refused.json["spaces"] == ["next", "space"]


def test_who_is_erased_is_nobodys_neighbour(similar_service: Open) -> None:
    settings, service = similar_service
    [nearest] = service.request("/v1/users/u7/similar?count=1").json["similar"]
    before = metric(service.port, "streamer_neighbour_vectors", view="users")
    publish(settings, settings.topics.users, [(nearest["id"].encode(), None)])
    wait_until(lambda: service.get("users", nearest["id"]).status == 410)
    similar = service.request("/v1/users/u7/similar?count=20").json["similar"]
    assert nearest["id"] not in [each["id"] for each in similar]
    wait_until(lambda: metric(service.port, "streamer_neighbour_vectors", view="users") == before - 1)


def test_a_new_space_has_an_index_of_its_own(similar_service: Open) -> None:
    settings, service = similar_service
    fields = {"embedding_space": "newest", "embedding": [1.0, 2.0]}
    publish(settings, settings.topics.visitors, [a_message(v, CLOSED_AT, **fields) for v in ("new1", "new2")])

    def found() -> bool:
        answer = service.request("/v1/visitors/new1/similar")
        return answer.status == 200 and answer.json == {
            "space": "newest",
            "similar": [{"id": "new2", "cosine": 1.0}],
        }

    wait_until(found)


@pytest.mark.parametrize(
    ("call", "code", "said"),
    [
        (["nobody"], 1, "user nobody: is unknown"),
        (["gone"], 1, "user gone: was erased or withdrawn"),
        (["f" * 32], 1, "is no visitor's latest session"),
        (["without"], 1, "has no profile_embedding to compare"),
        (["v/2", "--as", "visitor", "--space", "space"], 1, "its vector is of the space next"),
        (
            ["v/2", "--as", "visitor", "--space", "older"],
            2,
            "--space older: no record is of it, expected one of new",
        ),
    ],
)
def test_the_command_says_what_it_cannot_compare(
    similar_service: Open, run_streamer: RunStreamer, call: list[str], code: int, said: str
) -> None:
    done = run_streamer("similar", *call, settings=similar_service.settings)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_the_command_prints_ids_and_labels(similar_service: Open, run_streamer: RunStreamer) -> None:
    done = run_streamer("similar", "u3", "--count", "2", settings=similar_service.settings)
    assert done.returncode == 0, done.stderr
    first, _ = done.stdout.splitlines()
    assert first.split("  ")[1].startswith("u")
    assert first.endswith("credit / cards")
