from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from streamer.models.arrays import Float32
from streamer.models.labelling.teacher import SoftLabels
from streamer.models.training.novelty import PAGES, ItemModel, clicks_by_page, exchanged, items_of, surprising
from streamer.schemas.click import Session
from tests.models.hand_made import a_click, a_session


def visit(*paths: str) -> Session:
    return a_session(*(a_click(i * 1_000, path=path) for i, path in enumerate(paths)))


CARDS = visit("/", "/cards", "/cards/gold")
LOANS = visit("/", "/loans", "/loans/rates")
PASSING = visit("/", "/cards", "/garden")
"""One in twenty passes by the garden, whatever the intent."""


@pytest.fixture(scope="module")
def model() -> ItemModel:
    sessions = [CARDS] * 190 + [PASSING] * 20 + [LOANS] * 190
    soft = np.eye(2, dtype=np.float32)[[0] * 210 + [1] * 190]
    return ItemModel.fit(sessions, SoftLabels(np.arange(400), soft))


def test_a_session_that_stays_on_what_others_pass_by_is_surprising(model: ItemModel) -> None:
    garden = visit("/", "/garden", "/garden")
    usual, passing, strange = model.surprise([CARDS, PASSING, garden])
    assert usual < passing < strange


def test_a_session_of_two_known_intents_is_hardly_more_surprising_than_of_one(model: ItemModel) -> None:
    both = visit("/", "/cards", "/cards/gold", "/loans", "/loans/rates", "/")
    one, two, strange = model.surprise([CARDS, both, visit("/garden", "/garden")])
    assert two - one < (strange - one) / 3


def test_what_nobody_has_seen_is_the_most_surprising(model: ItemModel) -> None:
    garden, unseen = model.surprise([visit("/garden"), visit("/nowhere")])
    assert np.isfinite(unseen)
    assert unseen > garden


def test_surprise_is_that_of_an_item_and_of_nobody_else(model: ItemModel) -> None:
    twice = visit("/", "/cards", "/cards/gold", "/", "/cards", "/cards/gold")
    alone = model.surprise([CARDS])
    assert model.surprise([twice]) == pytest.approx(alone)
    assert model.surprise([LOANS, CARDS])[1] == alone[0]


def test_a_click_is_its_query_or_its_page_or_whatever_the_site_says() -> None:
    assert list(items_of(a_click(0, path="/search", search_query="Gold card"))) == ["word gold", "word card"]
    assert list(items_of(a_click(0, path="/cards"))) == ["page /cards"]
    assert list(items_of(a_click(0, path=None, product_id="P-7"))) == ["page P-7"]
    assert list(items_of(a_click(0, path=None, page_type=None, event_type="hover"))) == ["page hover"]


def test_labels_of_some_sessions_are_enough_and_none_but_rare_items_too() -> None:
    few = ItemModel.fit([LOANS, CARDS], SoftLabels(np.array([1]), np.ones((1, 1), np.float32)))
    assert np.isfinite(few.surprise([LOANS, CARDS])).all()


def visit(*paths: str) -> Session:
    return a_session(*(a_click(i * 1_000, path=path, dwell_ms=i) for i, path in enumerate(paths)))


LONG = visit(*["/common"] * 30)


def test_a_page_that_is_rare_is_drawn_as_often_as_one_that_is_not() -> None:
    pools = clicks_by_page([LONG] * 50 + [visit("/rare")] * 12)
    assert len(pools) == 2
    made = exchanged([LONG] * 200, pools, 1, np.random.default_rng(0))
    pages = [{click.path for click in session.clicks} for session in made]
    rare = sum("/rare" in seen for seen in pages)
    assert 60 < rare < 130


def test_clicks_that_were_exchanged_come_from_few_pages_some_never_seen() -> None:
    pools = clicks_by_page([visit(*(f"/{i}" for i in range(20)))] * 10)
    made = exchanged([LONG] * 300, pools, 2, np.random.default_rng(0))
    strange = [{click.path for click in session.clicks} - {"/common"} for session in made]
    assert max(map(len, strange)) == 2
    unseen = [path for paths in strange for path in paths if path and "unseen" in path]
    assert 20 < len(unseen) < 120
    assert len(set(unseen)) == len(unseen)


def test_times_and_the_visit_stay() -> None:
    pools = clicks_by_page([visit("/other")] * 12)
    (made,) = exchanged([LONG], pools, 1, np.random.default_rng(3))
    assert made != LONG
    for before, after in zip(LONG.clicks, made.clicks, strict=True):
        assert (after.timestamp, after.dwell_ms) == (before.timestamp, before.dwell_ms)


def test_without_pages_to_draw_from_only_real_sessions_are_left() -> None:
    sessions = [visit(f"/{i}") for i in range(5)]
    assert clicks_by_page(sessions) == []
    found = surprising(sessions, some_labels(5), embedded, np.random.default_rng(0))
    assert found.real == len(found.surprise) == 5


def test_unusual_sessions_follow_the_real_ones_and_are_more_surprising() -> None:
    sessions = [visit("/a", "/b", "/c")] * 40 + [visit("/a", "/garden")] * 12
    found = surprising(sessions, some_labels(52), embedded, np.random.default_rng(0))
    assert found.embeddings.shape == (len(found.surprise), 1)
    assert len(found.surprise) == 52 * (1 + len(PAGES))
    assert found.surprise[found.real :].mean() > found.surprise[: found.real].mean()


def some_labels(count: int) -> SoftLabels:
    return SoftLabels(np.arange(count), np.ones((count, 1), np.float32))


def embedded(sessions: Sequence[Session]) -> Float32:
    return np.array([[len(session.clicks)] for session in sessions], np.float32)
