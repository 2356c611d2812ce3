from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.models.vocabulary import OOV_BUCKETS, Vocabulary, stable_hash


def test_hashes_never_change() -> None:
    assert stable_hash("123456789") == 0xCBF43926  # the check value of CRC-32's definition


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_value_is_id_0(value: str | None) -> None:
    assert Vocabulary(["a"]).id_of(value) == 0


def test_learnt_values_follow_the_hashed_buckets_most_frequent_first() -> None:
    vocabulary = Vocabulary.learn({"rare": 10, "often": 30, "also": 10}, min_count=10, max_size=99)
    assert vocabulary.values == ("often", "also", "rare")
    assert [vocabulary.id_of(v) for v in vocabulary.values] == [33, 34, 35]
    assert vocabulary.size == 1 + OOV_BUCKETS + 3


def test_a_value_is_learnt_from_min_count_on() -> None:
    assert Vocabulary.learn({"nine": 9, "ten": 10}, min_count=10, max_size=99).values == ("ten",)


def test_a_vocabulary_is_bounded_in_number_and_length() -> None:
    counts = {"x" * 129: 99, "x" * 128: 98, "b": 97, "c": 96}
    assert Vocabulary.learn(counts, min_count=1, max_size=2).values == ("x" * 128, "b")


def test_a_value_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["a", "a"])


@given(st.text(min_size=1))
def test_an_unknown_value_falls_into_a_hashed_bucket(value: str) -> None:
    assert 1 <= Vocabulary([]).id_of(value) <= OOV_BUCKETS


def test_lone_surrogates_have_a_hash() -> None:
    assert 1 <= Vocabulary([]).id_of("\ud800") <= OOV_BUCKETS


def test_a_wider_tail_tells_values_apart_that_were_never_learnt() -> None:
    usual, wide = Vocabulary(["a"]), Vocabulary(["a"], hashed=4096)
    rare = [f"hotel {i}" for i in range(200)]
    assert len({usual.id_of(value) for value in rare}) <= OOV_BUCKETS
    assert len({wide.id_of(value) for value in rare}) > 180
    assert all(1 <= wide.id_of(value) <= 4096 for value in rare)
    assert (wide.id_of("a"), wide.first_learnt, wide.size) == (4097, 4097, 4098)
