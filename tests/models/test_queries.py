from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.models.queries import QUERY_BUCKETS, QUERY_GRAMS, query_ids, words_of


def test_words_are_folded_and_split_at_punctuation() -> None:
    assert words_of("Mortgage-RATES  2½") == ["mortgage", "rates", "21", "2"]


def test_case_width_and_punctuation_make_no_difference() -> None:
    assert query_ids("mortgage rates") == query_ids("  MORTGAGE, ｒａｔｅｓ!")


def test_a_misspelt_word_shares_most_of_its_grams() -> None:
    right, wrong, other = (set(query_ids(q)) for q in ("mortgage", "mortgge", "savings"))
    assert len(right & wrong) >= 5
    assert len(right & other) <= 1


def test_a_query_without_a_word_has_no_ids() -> None:
    assert query_ids("?! ...") == ()


@given(st.text())
def test_ids_are_distinct_and_within_bounds(query: str) -> None:
    ids = query_ids(query)
    assert len(set(ids)) == len(ids) <= QUERY_GRAMS
    assert all(1 <= i <= QUERY_BUCKETS for i in ids)


def test_words_come_before_grams_when_a_query_is_too_long() -> None:
    many = " ".join(f"word{i}" for i in range(QUERY_GRAMS))
    assert len(query_ids(many)) == QUERY_GRAMS
    assert query_ids("word0")[0] == query_ids(many)[0]
