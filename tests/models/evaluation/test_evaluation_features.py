from __future__ import annotations

import numpy as np
import pytest

from streamer.models.evaluation.features import MIN_SESSIONS, Bag
from streamer.schemas.click import Click, Session


def session(*paths: str, query: str | None = None) -> Session:
    clicks = [
        Click(timestamp=i, event_id=str(i), event_type="page_view", path=path) for i, path in enumerate(paths)
    ]
    if query is not None:
        clicks.append(Click(timestamp=99, event_id="q", event_type="search", search_query=query))
    return Session("s", "v", None, 0, 99, 100, len(clicks), "gap", False, clicks)


def test_a_bag_counts_pages_and_search_words() -> None:
    bag = Bag.fit([session("/a", "/b", query="Car loan")] * MIN_SESSIONS)
    encoded = bag.encode([session("/a", "/a", query="loan loan car")])[0]
    counts = {item: np.expm1(encoded[column]) for item, column in bag.columns.items()}
    assert counts["page /a"] == pytest.approx(2)
    assert counts["page /b"] == pytest.approx(0)
    assert counts["word loan"] == pytest.approx(2)
    assert counts["event search"] == pytest.approx(1)


def test_what_training_sessions_hardly_ever_had_is_left_out() -> None:
    common, rare = [session("/a")] * MIN_SESSIONS, [session("/rare", "/rare")] * (MIN_SESSIONS - 1)
    bag = Bag.fit(common + rare)
    assert "page /a" in bag.columns
    assert "page /rare" not in bag.columns
    assert bag.encode([session("/never")]).sum() == pytest.approx(np.log(2))  # its event type alone
