"""What is no click and tells how long a page was read: it counts for the last click there, moves nothing."""

from __future__ import annotations

import pytest

from streamer.core.sessionizer import Outcome
from streamer.schemas.click import KEPT_CLICKS, Click
from tests.core.partition import GAP, Partition


class Reader(Partition):
    """Clicks on pages, and what tells how long these were read."""

    def page(self, at: int, path: str | None, dwell_ms: int | None = None) -> None:
        self.idle(at)
        click = Click(at, f"e{self.offset}", "page_view", path=path, dwell_ms=dwell_ms)
        assert self.sessionizer.add("ann", click, self.offset) is Outcome.JOINED
        self.offset += 1

    def told(
        self, at: int, path: str | None, dwell_ms: int | None = None, arrival: int | None = None
    ) -> None:
        self.idle(at if arrival is None else arrival)
        self.sessionizer.tell_dwell("ann", Click(at, "", "", path=path, dwell_ms=dwell_ms))

    def dwells(self) -> list[int | None]:
        return [click.dwell_ms for session in self.drain() for click in session.clicks]


@pytest.fixture
def reader() -> Reader:
    return Reader()


def test_a_heartbeat_says_that_the_page_was_read_until_then(reader: Reader) -> None:
    reader.page(10_000, "/a")
    reader.told(10_100, "/a")
    reader.told(10_400, "/a")
    reader.told(10_300, "/a")
    assert reader.dwells() == [400]


def test_it_counts_for_the_last_click_of_its_own_page(reader: Reader) -> None:
    reader.page(10_000, "/a")
    reader.page(10_100, "/a")
    reader.page(10_200, "/b")
    reader.page(10_600, "/a")
    reader.told(10_500, "/a")
    assert reader.dwells() == [None, 400, None, None]


@pytest.mark.parametrize("path", ["/other", None])
def test_a_page_without_a_click_has_no_dwell(reader: Reader, path: str | None) -> None:
    reader.page(10_000, "/a")
    reader.told(10_100, path)
    assert reader.dwells() == [None]


def test_times_that_are_reported_add_up_but_not_beyond_the_time_that_has_passed(reader: Reader) -> None:
    reader.page(10_000, "/a")
    reader.told(10_300, "/a", 100)
    reader.told(10_600, "/a", 150)
    reader.page(10_700, "/b")
    reader.told(10_900, "/b", 5000)
    assert reader.dwells() == [250, 200]


def test_a_longer_dwell_of_the_click_itself_stays(reader: Reader) -> None:
    reader.page(10_000, "/a", 700)
    reader.told(10_300, "/a")
    reader.told(10_300, "/a", 50)
    assert reader.dwells() == [700]


def test_what_comes_within_a_gap_counts_and_what_comes_later_does_not(reader: Reader) -> None:
    reader.page(10_000, "/a")
    reader.told(10_000 + GAP, "/a")
    reader.told(10_001 + GAP, "/a")
    assert reader.dwells() == [GAP]


def test_it_opens_and_extends_no_session_and_moves_no_watermark(reader: Reader) -> None:
    reader.told(9_000, "/a")
    assert reader.open_spans == []
    reader.page(10_000, "/a")
    watermark = reader.watermark
    reader.told(10_900, "/a")
    assert (reader.open_spans, reader.watermark) == ([(10_000, 10_000)], watermark)


def test_it_counts_in_the_session_that_it_is_of(reader: Reader) -> None:
    reader.page(10_000, "/a")
    reader.page(11_500, "/a")
    reader.told(10_200, "/a", arrival=11_500)
    assert reader.dwells() == [200, None]


def test_one_from_the_future_or_before_all_time_counts_nowhere(reader: Reader) -> None:
    reader.page(10_000, "/a")
    reader.told(10_401, "/a", arrival=10_100)
    reader.told(10, "/a", arrival=10_100)
    assert reader.dwells() == [None]


def test_a_session_that_it_changes_is_stored_again(reader: Reader) -> None:
    reader.page(10_000, "/a")
    reader.sessionizer.take_changed()
    reader.told(10_200, "/other")
    assert reader.sessionizer.changed_count == 0
    reader.told(10_200, "/a")
    assert reader.sessionizer.changed_count == 1


def test_it_counts_for_the_last_clicks_of_a_long_session_too(reader: Reader) -> None:
    for at in range(10_000, 10_000 + 2 * KEPT_CLICKS):
        reader.page(at, f"/{at}")
    reader.told(10_500, f"/{10_000 + 2 * KEPT_CLICKS - 1}")
    reader.told(10_500, f"/{10_000 + KEPT_CLICKS}")
    assert reader.dwells() == [None] * (KEPT_CLICKS - 1) + [501 - 2 * KEPT_CLICKS]
