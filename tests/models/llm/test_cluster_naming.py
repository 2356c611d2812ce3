"""Clusters get the names that a language model gives them; the model never says which session is which."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from streamer.models.labelling.clusters import Clusters
from streamer.models.labelling.gate import Bounds
from streamer.models.llm.asking import Asker
from streamer.models.llm.cluster_naming import LlmNamer
from streamer.models.llm.errors import LlmError
from streamer.pipeline.scrub import scrub
from streamer.schemas.click import Session
from tests.models.hand_made import a_click, a_session
from tests.models.llm.rule_endpoint import Body, Misbehaviour, Reply, completion, serving

AskerOf = Callable[..., Asker]
TOPICS = (
    ("/loans/mortgage", "/loans/mortgage/fixed"),
    ("/loans/car", "/loans/car/electric"),
    ("/cards/lost", "/cards/lost/block"),
    ("/cards/credit", "/cards/credit/gold"),
)


def visit(number: int, *paths: str) -> Session:
    clicks = [a_click(number * 10 + i, path=path) for i, path in enumerate(("/start", *paths))]
    return a_session(*clicks, visitor_id=f"v{number}")


def clusters_of(*topics: tuple[str, ...], each: int = 6) -> Clusters:
    sessions = [visit(k * each + i, *paths) for k, paths in enumerate(topics) for i in range(each)]
    return Clusters(
        sessions, np.repeat(np.arange(len(topics)), each), np.arange(len(topics)) // 2, min_visitors=2
    )


def saying(part: str, **said: object) -> Misbehaviour:
    """Says so wherever the question has this part."""

    def misbehave(_number: int, body: Body) -> Reply | None:
        asked = json.dumps(body["messages"][:2])
        return completion(json.dumps(said)) if part in asked else None

    return misbehave


def test_each_cluster_gets_a_label_and_each_group_of_near_ones_too(asker_of: AskerOf) -> None:
    with serving() as server:
        namer = LlmNamer(asker_of(server.base_url), scrub, 1)
        names = namer.names(clusters_of(*TOPICS))
        schemas = [body["response_format"]["json_schema"]["schema"] for body in server.bodies[:4]]
    assert list(names.labels) == ["Mortgage", "Car", "Lost", "Credit"]
    assert names.parents.tolist() == [0, 0, 1, 1]
    assert names.intent_of.tolist() == [0, 1, 2, 3]
    assert names.notes["read_back_kappa"] == 1.0
    assert names.failures == ()
    assert namer.name == "clusters+llm:rules"
    shown = {line for schema in schemas for line in schema["properties"]["evidence"]["enum"]}
    assert shown == {path for topic in TOPICS for path in topic}


def test_labels_that_come_out_alike_are_looked_at_side_by_side(asker_of: AskerOf) -> None:
    asked: list[str] = []

    def careless(_number: int, body: Body) -> Reply | None:
        system, user = (message["content"] for message in body["messages"][:2])
        if '"only_a"' in system:
            asked.append(user)
            return None
        if '"evidence"' in system and "Which of these" not in system and "/loans/" in user:
            line = user.split("\n")[1].partition(":")[0]
            return completion(
                json.dumps({"evidence": line, "label": "Borrow money", "description": "Loans."})
            )
        return None

    with serving(careless) as server:
        names = LlmNamer(asker_of(server.base_url), scrub, 1).names(clusters_of(*TOPICS))
    (user,) = asked
    assert "/loans/mortgage" in user.partition("Only in B")[0]
    assert "/loans/car" in user.partition("Only in B")[2]
    assert list(names.labels)[:2] == ["Mortgage", "Car"]
    assert (names.notes["looked_again"], names.notes["merged"]) == (1, 0)


def test_clusters_that_stay_alike_become_one_intent(asker_of: AskerOf) -> None:
    alike = saying("/loans/", evidence="/loans/car", label="Borrow money", description="They want a loan.")
    with serving(alike) as server:
        namer = LlmNamer(asker_of(server.base_url, attempts=2), scrub, 1)
        names = namer.names(clusters_of(("/loans/car", "/loans/a"), ("/loans/car", "/loans/b"), *TOPICS[2:]))
    assert list(names.labels) == ["Borrow money", "Lost", "Credit"]
    assert names.intent_of.tolist() == [0, 0, 1, 2]
    assert names.parents.tolist() == [0, 1, 1]
    assert names.notes["merged"] == 1


def test_a_cluster_without_a_usable_name_is_called_by_its_words(asker_of: AskerOf) -> None:
    with serving(saying("/cards/lost", label="")) as server:
        names = LlmNamer(asker_of(server.base_url, attempts=1), scrub, 1, Bounds(0, 0, 1)).names(
            clusters_of(*TOPICS)
        )
    assert names.labels[2] == "block / lost"
    assert names.notes["unnamed"] == 1


def test_labels_that_do_not_hold_are_said(asker_of: AskerOf) -> None:
    """By labels that say nothing, a reader finds no line."""

    def dull(_number: int, body: Body) -> Reply | None:
        lines = body["messages"][1]["content"].splitlines()[1:-1]
        reads = "Which of these lines" in body["messages"][0]["content"]
        return completion(json.dumps({"line": min(lines)})) if reads else None

    with serving(dull) as server:
        names = LlmNamer(asker_of(server.base_url), scrub, 1).names(clusters_of(*TOPICS))
    (failure,) = names.failures
    assert "below llm.min_kappa" in failure


def test_a_model_that_names_nothing_says_why(asker_of: AskerOf) -> None:
    with serving(lambda _n, _b: completion("no")) as server:
        namer = LlmNamer(asker_of(server.base_url, attempts=1), scrub, 1)
        with pytest.raises(LlmError, match="named none of 4 clusters: 4 of 4 times there was no JSON"):
            namer.names(clusters_of(*TOPICS))


def test_an_estimate_sends_nothing_and_shows_what_would_be_sent(asker_of: AskerOf) -> None:
    with serving() as server:
        namer = LlmNamer(asker_of(server.base_url), scrub, 1)
        found = namer.estimate(clusters_of(*TOPICS))
        assert server.bodies == []
        namer.names(clusters_of(*TOPICS))
        assert found.requests == len(server.bodies)
        assert set(found.shown) <= {body["messages"][1]["content"] for body in server.bodies}
