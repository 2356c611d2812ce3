from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.training.teacher import Float32, SoftLabels
from models.training.unusual import PAGES, exchanged, shelves_of, surprising
from schemas.click import Session
from tests.models.hand_made import a_click, a_session


def visit(*paths: str) -> Session:
    return a_session(*(a_click(i * 1_000, path=path, dwell_ms=i) for i, path in enumerate(paths)))


LONG = visit(*["/common"] * 30)


def test_a_page_that_is_rare_is_drawn_as_often_as_one_that_is_not() -> None:
    shelves = shelves_of([LONG] * 50 + [visit("/rare")] * 12)
    assert len(shelves) == 2
    made = exchanged([LONG] * 200, shelves, 1, np.random.default_rng(0))
    pages = [{click.path for click in session.clicks} for session in made]
    rare = sum("/rare" in seen for seen in pages)
    assert 60 < rare < 130


def test_clicks_that_were_exchanged_come_from_few_pages_some_never_seen() -> None:
    shelves = shelves_of([visit(*(f"/{i}" for i in range(20)))] * 10)
    made = exchanged([LONG] * 300, shelves, 2, np.random.default_rng(0))
    strange = [{click.path for click in session.clicks} - {"/common"} for session in made]
    assert max(map(len, strange)) == 2
    unseen = [path for paths in strange for path in paths if path and "unseen" in path]
    assert 20 < len(unseen) < 120
    assert len(set(unseen)) == len(unseen)


def test_times_and_the_visit_stay() -> None:
    shelves = shelves_of([visit("/other")] * 12)
    (made,) = exchanged([LONG], shelves, 1, np.random.default_rng(3))
    assert made != LONG
    for before, after in zip(LONG.clicks, made.clicks, strict=True):
        assert (after.timestamp, after.dwell_ms) == (before.timestamp, before.dwell_ms)


def test_without_pages_to_draw_from_only_real_sessions_are_left() -> None:
    sessions = [visit(f"/{i}") for i in range(5)]
    assert shelves_of(sessions) == []
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
