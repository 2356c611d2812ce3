from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.models.taxonomy import (
    Intent,
    Mapped,
    Parent,
    Taxonomy,
    carried_over,
    from_json,
    successors,
    to_json,
    unused_id,
)

LOANS = Taxonomy(
    format=1,
    version="1",
    teacher="keyless",
    parents=(Parent("loans", "Loans"), Parent("cards", "Cards")),
    intents=(
        Intent("car-loan", "Car loan", "loans", terms=("car", "loan")),
        Intent("gold-card", "Gold card", "cards", terms=("gold", "card")),
    ),
)


def test_a_taxonomy_reads_back_the_same_bytes() -> None:
    assert to_json(from_json(to_json(LOANS))) == to_json(LOANS)


def _changed(**fields: Any) -> str:
    return json.dumps(json.loads(to_json(LOANS)) | fields)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "can't be read"),
        (_changed(extra=1), "can't be read"),
        (_changed(format=2), "format is 2, expected 1"),
        (_changed(version=""), "version is empty"),
        (_changed(intents=[]), "0 intents, expected 1"),
        (_changed(parents=[{"id": "loans", "label": "Loans"}]), "'gold-card' has the parent 'cards'"),
        (_changed(parents=[{"id": "car-loan", "label": "x"}]), "'car-loan' is used twice"),
        (_changed(parents=[{"id": "loans", "label": ""}]), "label is empty"),
        (_changed(retired=["gold-card"]), "'gold-card' is retired, but in use"),
    ],
)
def test_what_is_no_taxonomy_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_json(text)


def test_ids_are_carried_over_retired_and_never_given_again() -> None:
    new = Taxonomy(
        format=1,
        version="1",
        teacher="keyless",
        parents=(Parent("lending", "Lending"),),
        intents=(Intent("vehicle", "Vehicle", "lending"), Intent("gold-card", "Gold price", "lending")),
    )
    second = carried_over(new, LOANS, {"vehicle": "car-loan", "lending": "loans"})
    assert [(i.id, i.label, i.parent) for i in second.intents] == [
        ("car-loan", "Vehicle", "loans"),
        ("gold-card-2", "Gold price", "loans"),
    ]
    assert second.version == "2"
    assert second.retired == ("cards", "gold-card")
    assert second.mapping == (Mapped("car-loan", "car-loan"), Mapped("gold-card", None))
    third = carried_over(new, second, {})
    assert not {i.id for i in third.intents} & {"car-loan", "gold-card", "gold-card-2"}


def test_of_two_parts_of_an_intent_the_one_of_its_words_continues_it() -> None:
    """Also where fewer of its terms are the same, and where the words come in another order."""
    before = Intent("everyday", "everyday / current", "a", terms=("everyday", "current", "abroad", "fees"))
    kept = Intent("kept", "Current / everyday", "a", terms=("current", "everyday", "joint", "bank"))
    part = Intent("part", "abroad / transfer", "a", terms=("abroad", "fees", "everyday", "tracking"))
    old, new = (
        Taxonomy(format=1, version="1", teacher="keyless", parents=(Parent("a", "a"),), intents=intents)
        for intents in ((before,), (part, kept))
    )
    assert successors(new, old) == {"kept": "everyday", "a": "a"}


def test_an_id_that_is_taken_gets_a_number() -> None:
    assert unused_id("a", {"a", "a-2"}) == "a-3"
