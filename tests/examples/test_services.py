"""The example services: a tile ranker and a conversion scorer, by customer and by visitor."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.client import UserState, UserTable, VisitorState, VisitorTable
from streamer.kafka.topics import create_topics, declared_topics
from tests.client import test_user_view, test_visitor_view
from tests.client.records import NOW_MS, a_message, a_record, a_user
from tests.conftest import FreshSettings, as_environment

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "examples"))


def visitor(**fields: object) -> VisitorState:
    table = VisitorTable(10**15)
    table.apply(*a_message("v", **fields))
    state = table.get("v", NOW_MS)
    assert state is not None
    return state


def test_the_tile_ranker_uses_the_vector_of_its_space_else_the_intents_else_nothing() -> None:
    from rank_tiles import DEFAULT_ORDER, TileRanker

    by_vector = {"loans": np.array([2.0, 0.0]), "cards": np.array([0.0, 1.0])}
    ranker = TileRanker({"savings": ["cards"]}, "space", by_vector)
    assert ranker.rank(visitor())[0][:2] == ["loans", "cards"]
    tiles, why = ranker.rank(visitor(embedding_space="next"))
    assert (tiles[0], why) == ("savings", "intents")
    nothing = (list(DEFAULT_ORDER), "default")
    assert ranker.rank(None) == nothing
    assert ranker.rank(visitor(is_bot=True)) == nothing
    assert ranker.rank(visitor(embedding_space="next", top_intent=None)) == nothing


def test_the_conversion_scorer_forgets_with_time_and_knows_its_taxonomy() -> None:
    from score_conversion import DAY_MS, ConversionScorer

    scorer = ConversionScorer("1", {"cards": 4.0})
    stranger = scorer.score(None, NOW_MS)
    fresh, later = scorer.score(visitor(), NOW_MS), scorer.score(visitor(), NOW_MS + 4 * DAY_MS)
    assert fresh > later > stranger
    assert scorer.score(visitor(taxonomy_version="2"), NOW_MS) == stranger


def customer(*sessions: dict[str, Any], confidence: float = 1.0) -> UserState:
    table = UserTable(10**15)
    table.apply(*a_user("u", *sessions, confidence=confidence))
    state = table.get("u", NOW_MS)
    assert state is not None
    return state


def test_the_tile_ranker_goes_by_a_customers_latest_session_if_it_is_surely_theirs() -> None:
    from rank_tiles import TileRanker

    ranker = TileRanker({"savings": ["cards"]})
    assert ranker.rank(customer(a_record("v")))[0][0] == "savings"
    assert ranker.rank(customer(a_record("v"), confidence=0.4))[1] == "default"


def test_the_conversion_scorer_knows_a_customers_earlier_sessions() -> None:
    from score_conversion import ConversionScorer

    scorer = ConversionScorer("1", {"mortgage": 4.0})
    wanted = [{"intent_id": "mortgage", "label": "mortgage", "parent": None, "probability": 1.0}]
    before = a_record("phone", NOW_MS - 1, intents=wanted, top_intent="mortgage")
    alone, both = customer(a_record("laptop")), customer(a_record("laptop"), before)
    assert scorer.score(both, NOW_MS) > scorer.score(alone, NOW_MS) == scorer.score(None, NOW_MS)


@pytest.mark.kafka
def test_services_answer_by_customer_and_by_visitor(fresh_settings: FreshSettings) -> None:
    settings = fresh_settings({"topics.partitions": 2, "identity.enabled": True})
    asyncio.run(create_topics(settings.kafka, declared_topics(settings)))
    now = int(time.time() * 1000)
    intents = [{"intent_id": "credit-gold", "label": "gold", "parent": None, "probability": 0.9}]
    gold: dict[str, Any] = {"intents": intents, "top_intent": "credit-gold"}
    test_visitor_view.publish(settings, a_message("v", now, **gold))
    test_user_view.publish(settings, a_user("u", a_record("v", now, **gold)))
    environ = as_environment(settings) | {"PYTHONPATH": str(ROOT), "PATH": ""}

    def told(example: str, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, str(ROOT / "examples" / f"{example}.py"), *arguments],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    assert told("rank_tiles", "--user", "u").startswith("by intents: cards,")
    assert told("rank_tiles", "--visitor", "v").startswith("by intents: cards,")
    assert told("rank_tiles", "--user", "x").startswith("by default: accounts,")
    scores = dict(line.split(": ") for line in told("score_conversion", "--user", "u", "x").splitlines())
    assert float(scores["u"]) > float(scores["x"])
