"""What is known of each hotel when one is clicked out to, on a made-up hotel search."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from streamer.models.evaluation.real.clickstreams import MissingDataError
from streamer.models.evaluation.real.trivago import FEATURES, SHOWN, Ranking, evaluate, load, mrr
from streamer.models.training.config import TrainConfig

SESSIONS = 60


def event(session: int, step: int, at: int, **fields: Any) -> dict[str, Any]:
    names = ("page_type", "page_url", "page_title", "search_query", "element", "referrer", "product_id")
    blank: dict[str, Any] = dict.fromkeys((*names, "category", "price"))
    known = {"event_id": f"trv-{session}-{step}", "visitor_id": f"v{session}", "timestamp": at}
    return {**blank, **known, "event_type": "click", **fields}


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    with gzip.open(folder / f"{name}.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def hotel_search(folder: Path, after: str = "h0") -> Path:
    """Three hotels are shown, one is touched and then clicked out to; `after` is touched after that."""
    rng = np.random.default_rng(0)
    events, ranking = [], []
    for session in range(SESSIONS):
        at = 1_000_000 * (session + 1)
        shown = [f"h{hotel}" for hotel in rng.permutation(6)[:3]]
        chosen = shown[int(rng.integers(3))]
        events += [
            event(session, 1, at, element="interaction item image", product_id=chosen),
            event(session, 2, at + 10, element="clickout item", product_id=chosen),
            event(session, 3, at + 20, element="interaction item image", product_id=after),
        ]
        ranking.append(
            {
                "event_id": f"trv-{session}-2",
                "visitor_id": f"v{session}",
                "source_session_id": str(session),
                "timestamp": at + 10,
                "clicked_item": chosen,
                "impressions": shown,
                "prices": [50.0, 60.0, 70.0],
            }
        )
    write(folder, "trivago.events", events)
    write(folder, "trivago.ranking", ranking)
    return folder


@pytest.fixture
def ranking(tmp_path: Path) -> Ranking:
    return load(hotel_search(tmp_path))


def feature(ranking: Ranking, name: str) -> np.ndarray:
    return ranking.features[:, :, FEATURES.index(name)]


def test_the_hotel_touched_before_is_the_last_and_no_other(ranking: Ranking) -> None:
    assert np.array_equal(feature(ranking, "is_last").argmax(axis=1), ranking.clicked)
    assert feature(ranking, "is_last").sum() == SESSIONS


def test_nothing_that_happens_from_the_click_out_on_is_known(tmp_path: Path, ranking: Ranking) -> None:
    (tmp_path / "other").mkdir()
    changed = load(hotel_search(tmp_path / "other", after="h5"))
    assert np.array_equal(changed.features, ranking.features)
    assert changed.before == ranking.before
    assert all(click.element != "clickout item" for clicks in ranking.before for click in clicks)


def test_popularity_counts_earlier_click_outs_alone(ranking: Ranking) -> None:
    popularity = feature(ranking, "popularity")
    assert popularity[0].max() == 0
    first = ranking.shown[0][int(ranking.clicked[0])]
    later = next(row for row in range(1, SESSIONS) if first in ranking.shown[row])
    assert popularity[later, ranking.shown[later].index(first)] >= np.log1p(1)


def test_a_ranking_that_is_always_right_has_an_mrr_of_one_and_ties_count_half(ranking: Ranking) -> None:
    rows = np.arange(SESSIONS)
    right = (np.arange(SHOWN) == ranking.clicked[:, None]).astype(np.float64)
    assert mrr(right, ranking, rows).value() == 1.0
    assert mrr(np.zeros_like(right), ranking, rows).value() == pytest.approx(1 / 2)


def test_the_whole_evaluation_runs_and_finds_that_the_last_hotel_is_the_one(tmp_path: Path) -> None:
    config = TrainConfig(dim=8, heads=2, hidden=16, epochs=1, batch=16, min_count=1)
    found = evaluate(hotel_search(tmp_path), config, draws=50)
    assert found["mrr"]["last_then_order"]["value"] == 1.0
    assert found["rows"]["test"] == SESSIONS // 2
    assert set(found["chosen_versus"]) | {found["chosen_on_validation"]} == set(found["mrr"])


def test_a_folder_without_the_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"trivago\.events"):
        load(tmp_path)
