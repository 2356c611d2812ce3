from __future__ import annotations

import numpy as np
import pytest

from models.training.surprise import ItemModel, items_of
from models.training.teacher import SoftLabels
from schemas.click import Session
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
