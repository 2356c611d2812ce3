"""What earlier sessions of a visitor tell of a click-out, on a made-up hotel search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from streamer.models.evaluation.real import trivago_history
from streamer.models.evaluation.real.trivago import TREES, load
from streamer.models.evaluation.real.trivago_history import (
    BY_HAND,
    FUSED,
    WITH_ENCODER,
    _earlier_touches,
    evaluate,
    share_of,
)
from tests.models.evaluation.test_evaluation_trivago import event, write

VISITORS = 300
DAY_MS = 86_400_000
TINY = {"dim": 8, "heads": 2, "hidden": 16, "epochs": 1, "batch": 32, "min_count": 1}


def hotel_search(folder: Path) -> Path:
    """Half of the visitors come back, after others, and click out to the hotel looked at the first time."""
    rng = np.random.default_rng(0)
    events: list[dict[str, Any]] = []
    ranking = []
    for visitor in range(VISITORS):
        shown = [f"h{hotel}" for hotel in rng.permutation(40)[:10]]
        chosen = shown[int(rng.integers(10))]
        at, session = DAY_MS + 1_000_000 * visitor, 2 * visitor
        if visitor % 2:
            seen = event(session, 1, at - DAY_MS // 2, element="interaction item image", product_id=chosen)
            events.append({**seen, "visitor_id": f"v{visitor}"})
        for step, element in enumerate(("search for destination", "clickout item"), start=1):
            product = chosen if element == "clickout item" else None
            each = event(session + 1, step, at + step, element=element, product_id=product)
            events.append({**each, "visitor_id": f"v{visitor}"})
        ranking.append(
            {
                "event_id": f"trv-{session + 1}-2",
                "visitor_id": f"v{visitor}",
                "source_session_id": str(session + 1),
                "timestamp": at + 2,
                "clicked_item": chosen,
                "impressions": shown,
                "prices": [50.0] * 10,
            }
        )
    write(folder, "trivago.events", events)
    write(folder, "trivago.ranking", ranking)
    return folder


def test_who_comes_back_is_known_by_the_hotel_looked_at_before(tmp_path: Path) -> None:
    found = evaluate(hotel_search(tmp_path), TINY, (1,))
    assert found["rows"] == {"test": VISITORS // 2, "with earlier sessions": VISITORS // 4}
    with_earlier = found["with_earlier"]
    assert set(with_earlier["mrr"]) == {TREES, BY_HAND, WITH_ENCODER, FUSED}
    assert with_earlier["gain"][f"{BY_HAND} over {TREES}"]["low"] > 0.2
    assert with_earlier["mrr"][BY_HAND]["value"] > found["all"]["mrr"][BY_HAND]["value"]


def test_what_does_not_help_on_validation_has_no_share(tmp_path: Path) -> None:
    ranking = load(hotel_search(tmp_path))
    rng = np.random.default_rng(0)
    rows = np.arange(len(ranking.at))
    right = (np.arange(25) == ranking.clicked[:, None]).astype(np.float64)
    floor, noise = right + rng.normal(size=right.shape), rng.normal(size=right.shape)
    for scores in (right, floor, noise):
        scores[~ranking.exists] = -10.0
    assert share_of(noise, floor, ranking, rows) == 0.0
    assert share_of(floor, floor, ranking, rows) == 0.0
    assert share_of(right, floor, ranking, rows) > 0.0


def test_nothing_from_the_moment_of_the_click_out_on_is_an_earlier_click(tmp_path: Path) -> None:
    ranking = load(hotel_search(tmp_path))
    for row, (before, earlier) in enumerate(zip(ranking.before, ranking.earlier, strict=True)):
        assert all(click.timestamp < ranking.at[row] for click in earlier)
        assert {click.event_id for click in earlier}.isdisjoint(click.event_id for click in before)
        assert bool(earlier) == (int(ranking.visitor_ids[row][1:]) % 2 == 1)


def test_an_earlier_touch_is_counted_at_its_hotel_with_its_age(tmp_path: Path) -> None:
    ranking = load(hotel_search(tmp_path))
    row = next(row for row, earlier in enumerate(ranking.earlier) if earlier)
    touches, clicked_out, days, hotels, clicks = _earlier_touches(ranking)[row].T
    own = ranking.clicked[row]
    assert touches[own] == hotels[own] == clicks[own] == np.log1p(1)
    assert np.isnan(np.delete(days[:10], own)).all()
    assert days[own] == pytest.approx(0.5, abs=1e-3)
    assert touches.sum() == np.log1p(1)
    assert not clicked_out.any()


def test_contenders_of_one_seed_and_of_several_are_compared_on_the_same_visitors() -> None:
    ranks = np.random.default_rng(0).random((1, 30))
    alone, thrice = (
        trivago_history._resampled(each, np.arange(30)) for each in (ranks, np.tile(ranks, (3, 1)))
    )
    assert np.allclose(alone.draws, thrice.draws)
