from __future__ import annotations

import numpy as np

from streamer.models.labelling.naming import distinctive_terms, labels_from, slugs
from streamer.schemas.click import Session
from tests.models.hand_made import a_click, a_session


def sessions_about(path: str, query: str, count: int) -> list[Session]:
    pages = [a_click(0, path="/start"), a_click(1, path=path), a_click(2, search_query=query)]
    return [a_session(*pages, visitor_id=f"{path}{i}") for i in range(count)]


LOANS, CARDS = sessions_about("/loans/rates", "car loan", 20), sessions_about("/cards/gold", "gold card", 20)
LABELS = np.repeat([0, 1], 20)


def test_terms_that_tell_a_cluster_from_the_others_come_first() -> None:
    loans, cards = distinctive_terms(LOANS + CARDS, LABELS, 2, min_visitors=5)
    assert set(loans[:4]) == {"loans", "rates", "car", "loan"}
    assert set(cards[:3]) == {"cards", "gold", "card"}
    assert loans[-1] == cards[-1] == "start"


def test_words_of_too_few_visitors_name_nothing() -> None:
    own_words = [a_session(a_click(0, search_query="jane doe"), visitor_id="jane") for _ in range(50)]
    terms = distinctive_terms(LOANS + own_words, np.repeat([0, 1], [20, 50]), 2, min_visitors=2)
    assert not {"jane", "doe"} & {term for some in terms for term in some}


def test_numbers_short_words_and_stop_words_name_nothing() -> None:
    sessions = sessions_about("/p/3301/for", "the 2 x 4", 20)
    assert distinctive_terms(sessions, np.zeros(20, np.int64), 1, min_visitors=5) == [["start"]]


def test_a_shop_with_nothing_but_products_is_named_by_them() -> None:
    sessions = [a_session(a_click(product_id="A13"), visitor_id=f"v{i}") for i in range(20)]
    assert distinctive_terms(sessions, np.zeros(20, np.int64), 1, min_visitors=5) == [["A13"]]


def test_what_was_done_names_nothing_where_it_is_said_what_about() -> None:
    done = [
        a_click(event_type="login", path="/login", element="submit"),
        a_click(event_type="form_submit", path="/apply/loan", element="submit"),
        a_click(event_type="click", element="calculator"),
    ]
    sessions = [a_session(*done, visitor_id=f"v{i}") for i in range(20)]
    (terms,) = distinctive_terms(sessions, np.zeros(20, np.int64), 1, min_visitors=5)
    assert set(terms) == {"apply", "loan", "calculator"}


def test_labels_leave_out_what_an_earlier_word_says_and_are_never_the_same() -> None:
    labels = labels_from([["loan", "loans", "rates"], ["loan", "rates", "car"], [], []], words=2)
    assert labels == ["loan / rates", "loan / rates / car", "cluster 3", "cluster 4"]


def test_ids_are_made_of_labels_and_never_twice() -> None:
    taken = {"loans"}
    assert slugs(["Loans", "Car / loan", "¿?"], taken) == ["loans-2", "car-loan", "intent"]
    assert {"loans-2", "car-loan", "intent"} < taken
