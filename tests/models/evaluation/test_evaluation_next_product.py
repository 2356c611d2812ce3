"""Which product is looked at next, on a made-up shop where one leads to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from streamer.models.evaluation.real.next_product import (
    BOTH,
    CAUSAL,
    TABLE,
    Order,
    _reciprocal_ranks,
    _tables,
    evaluate,
)
from streamer.models.evaluation.result_store import ResultStore
from tests.models.evaluation.test_evaluation_trivago import event, write

TINY = {"dim": 16, "heads": 2, "hidden": 32, "batch": 32, "min_count": 1, "epochs": 20}
ALONE = {"weight_masked": 0.0, "weight_rest": 0.0, "weight_contrast": 0.0, "weight_causal": 1.0}
SETTINGS = {**TINY, **ALONE, "learning_rate": 0.02}
PRODUCTS = 6


def shop(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    events, context = [], []
    for visitor in range(400):
        at = int(rng.integers(PRODUCTS))
        for step in range(int(rng.integers(2, 7))):
            each = event(visitor, step, step, product_id=f"B{at}", category="skirts", price=20.0)
            more = {"country_code": 29, "colour_code": 1, "model_photography": 1, "site_page": 1}
            events.append(each)
            context.append({**more, "event_id": each["event_id"], "price_above_category_mean": False})
            at = (at + 1) % PRODUCTS if rng.random() < 0.9 else int(rng.integers(PRODUCTS))
    write(folder, "eshop2008.events", events)
    write(folder, "eshop2008.context", context)
    return folder


def test_what_follows_a_product_is_found_by_the_table_and_by_the_causal_head(tmp_path: Path) -> None:
    store = ResultStore(tmp_path / "results", tmp_path / "cache")
    found = evaluate(shop(tmp_path), SETTINGS, (1,), store)
    chance = float(np.mean(1.0 / np.arange(1, PRODUCTS + 1)))
    assert found["mrr"][TABLE]["value"] > 0.8
    assert found["mrr"][CAUSAL]["value"] > chance + 0.15
    assert found["gain_over_table"][BOTH]["value"] > -0.05


def test_a_table_of_two_products_backs_off_to_the_last_one() -> None:
    """After 1 comes 2, but after 0 and 1 comes 0."""
    learnt = [np.array([0, 1, 0]), np.array([2, 1, 2]), np.array([2, 1, 2])]
    begun = [np.array([0, 1]), np.array([1]), np.array([1, 1])]
    tables = {order: np.exp(logs) for order, logs in _tables(learnt, begun, 3).items()}
    last, two, nearly_last = (tables[Order(3.0, backoff)] for backoff in (None, 10.0, 100.0))
    assert last.argmax(axis=1).tolist() == [2, 2, 2]
    for table in tables.values():
        np.testing.assert_allclose(table.sum(axis=1), 1.0)
    np.testing.assert_allclose(two[1:], last[1:])
    # One transition from both, and ten that the last one alone stands for.
    np.testing.assert_allclose(two[0], (np.array([1.0, 0.0, 0.0]) + 10.0 * last[0]) / 11.0)
    assert two[0, 0] > nearly_last[0, 0] > last[0, 0]


def test_the_reciprocal_rank_of_a_tie_is_that_of_its_middle() -> None:
    logs = np.array([[0.0, -1.0, -2.0], [0.0, 0.0, -2.0], [0.0, 0.0, 0.0]])
    assert _reciprocal_ranks(logs, np.array([1, 0, 2])).tolist() == [1 / 2, 1 / 1.5, 1 / 2]
