"""Payments told from the first six events, on a made-up shop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from streamer.models.evaluation.real.shop1999 import FIRST, OURS, evaluate
from streamer.models.training.config import TrainConfig
from tests.models.evaluation.test_evaluation_trivago import event, write

VISITORS = 400
CONFIG = TrainConfig(dim=8, heads=2, hidden=16, epochs=2, batch=32, min_count=1)


def shop(folder: Path, told: float, permuted: bool = False) -> Path:
    """Who pays looks at the cart early with chance `told`; `permuted`: payments fall on anybody."""
    rng = np.random.default_rng(0)
    pays = rng.random(VISITORS) < 0.4
    shown = rng.permutation(pays) if permuted else pays
    rows = []
    for visitor in range(VISITORS):
        pages = rng.choice(["home", "product", "catalog"], size=FIRST).tolist()
        if shown[visitor] and rng.random() < told:
            pages[int(rng.integers(FIRST))] = "cart"
        pages += ["product", "pay_res" if pays[visitor] else "home"]
        for step, page in enumerate(pages):
            at = 1_000_000 * (visitor + 1) + int(1_000 * step)
            rows.append({**event(visitor, step, at, page_type=page), "event_type": "page_view"})
    write(folder, "shop1999.events", rows)
    return folder


def test_what_the_first_events_show_is_found_and_later_ones_are_not_looked_at(tmp_path: Path) -> None:
    found = evaluate(shop(tmp_path, told=0.9), CONFIG, draws=100)
    assert found["auc"]["logistic"]["value"] > 0.85
    assert found["auc"][OURS]["value"] > 0.85
    assert found["rows"]["learnt"] + found["rows"]["test"] == VISITORS


def test_with_permuted_outcomes_nothing_is_found(tmp_path: Path) -> None:
    """The payment itself comes after the sixth event: had anybody seen it, this would find it."""
    found = evaluate(shop(tmp_path, told=0.9, permuted=True), CONFIG, draws=100)
    for each in found["auc"].values():
        assert each["low"] < 0.6
