"""What is read of many records at once."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streamer.native.record_fields import count_until, latest_of

times = st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=20)


@given(times)
def test_the_latest_is_wherever_it_stands(at: list[int]) -> None:
    assert latest_of([SimpleNamespace(timestamp=each) for each in at]) == max(at)


@given(times, st.integers(-(2**53), 2**53) | st.just(float("inf")))
def test_what_comes_before_the_first_later_one_is_counted(at: list[int], limit: float) -> None:
    records = [SimpleNamespace(timestamp=each) for each in at]
    count = count_until(records, limit)
    assert all(each <= limit for each in at[:count])
    assert count == len(at) or at[count] > limit
