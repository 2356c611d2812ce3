"""What is typical of a cluster: often there and rarely elsewhere, said of several visitors, and no ids."""

from __future__ import annotations

import numpy as np

from streamer.models.labelling.clusters import Clusters, Profile, contrast, profiles
from streamer.pipeline.scrub import scrub
from streamer.schemas.click import Session
from tests.models.hand_made import a_click, a_session


def visit(number: int, *paths: str, **fields: object) -> Session:
    clicks = [a_click(i, path=path, **fields) for i, path in enumerate(paths)]
    return a_session(*clicks, visitor_id=f"v{number}")


def profiled(*sessions: list[Session], min_visitors: int = 2, most: int = 10) -> list[Profile]:
    labels = np.array([k for k, own in enumerate(sessions) for _ in own])
    parents = np.zeros(len(sessions), np.int64)
    every = [session for own in sessions for session in own]
    return profiles(Clusters(every, labels, parents, min_visitors), scrub, most)


def texts(profile: Profile) -> list[str]:
    return [line.text for line in profile.lines]


def test_the_most_typical_pages_come_first_and_common_ones_not_at_all() -> None:
    loans = [visit(i, "/", "/loans", *(["/loans/car"] if i < 2 else [])) for i in range(4)]
    cards = [visit(i, "/", "/cards") for i in range(4, 8)]
    of_loans, of_cards = profiled(loans, cards)
    assert texts(of_loans) == ["/loans", "/loans/car"]
    assert texts(of_cards) == ["/cards"]
    assert (of_loans.share, of_loans.lines[0].share, of_loans.lines[0].share_of_all) == (0.5, 1.0, 0.5)
    assert texts(profiled(loans, cards, most=1)[0]) == ["/loans"]


def test_a_line_of_one_visitor_is_not_shown() -> None:
    (first, _) = profiled([visit(0, "/a"), visit(0, "/a"), visit(1, "/b"), visit(2, "/b")], [visit(3, "/c")])
    assert texts(first) == ["/b"]


def test_searches_and_forms_are_told_and_scrubbed_and_products_are_not() -> None:
    def asks(number: int) -> Session:
        return a_session(
            a_click(0, event_type="search", search_query="Jo@mail.example loan"),
            a_click(1, event_type="form_start", path="/apply", product_id="P-1"),
            a_click(2, event_type="click", element="item deals", product_id="17"),
            visitor_id=f"v{number}",
        )

    (first, _) = profiled([asks(0), asks(1)], [visit(2, "/x"), visit(3, "/x")])
    found = "\n".join(texts(first))
    assert "form_start /apply" in found
    assert "click #item deals" in found
    assert "loan" in found
    assert "mail.example" not in found
    assert "P-1" not in found


def test_a_contrast_is_what_one_has_more_of() -> None:
    a = [visit(i, "/save", *(["/save/kids"] if i else [])) for i in range(3)]
    b = [visit(i, "/save", "/save/pension") for i in range(3, 6)]
    other = [visit(i, "/x") for i in range(6, 12)]
    of_a, of_b, _ = profiled(a, b, other)
    only_a, only_b = contrast(of_a, of_b, 5)
    assert [line.text for line in only_a] == ["/save/kids"]
    assert [line.text for line in only_b] == ["/save/pension"]
