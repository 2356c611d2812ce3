"""Edits of a taxonomy: plain cases, then what holds after any of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streamer.models.labelling import taxonomy_edits as edits
from streamer.models.labelling.taxonomy_edits import RefusedEditError
from streamer.models.labelling.teacher import SoftLabels
from streamer.models.taxonomy import (
    FORMAT,
    Intent,
    Mapped,
    Parent,
    Taxonomy,
    entries,
    from_json,
    next_version,
    to_json,
)
from streamer.models.training.relabel import Division, EditError, GivenLabels

MADE = Taxonomy(
    FORMAT,
    "1",
    "keyless",
    (Parent("loans", "Loans"), Parent("cards", "Cards")),
    (
        Intent("car", "Car loan", "loans", terms=("car",)),
        Intent("home", "Home loan", "loans"),
        Intent("gold", "Gold card", "cards"),
    ),
    mapping=(Mapped("old", "home"), Mapped("gold", "gold")),
)


def ids(taxonomy: Taxonomy) -> list[str]:
    return [intent.id for intent in taxonomy.intents]


def test_a_renamed_intent_stays_the_same_intent() -> None:
    renamed = edits.rename(MADE, "car", "  Finance a\ncar ", "They look for a rate.")
    assert renamed.intents[0] == Intent(
        "car", "Finance a car", "loans", "They look for a rate.", terms=("car",)
    )
    assert edits.rename(renamed, "car", "Car").intents[0].description == "They look for a rate."
    assert edits.rename(MADE, "cards", "Plastic").parents == (
        Parent("loans", "Loans"),
        Parent("cards", "Plastic"),
    )


def test_a_parent_goes_with_its_last_intent() -> None:
    moved = edits.move(MADE, "gold", "loans")
    assert moved.intents[2].parent == "loans"
    assert moved.parents == (Parent("loans", "Loans"),)
    assert moved.retired == ("cards",)


def test_a_new_parent_gets_an_id_that_nothing_ever_had() -> None:
    moved = edits.move_to_new_parent(replace(MADE, retired=("old-2",)), "home", "Old")
    assert moved.parents[-1] == Parent("old-3", "Old")
    assert moved.intents[1].parent == "old-3"


def test_a_merged_intent_is_continued_by_the_other_also_for_what_it_had_continued_itself() -> None:
    merged = edits.merge(edits.merge(MADE, "home", "car"), "car", "gold")
    assert ids(merged) == ["gold"]
    assert {m.previous: m.current for m in merged.mapping} == dict.fromkeys(
        ("old", "gold", "home", "car"), "gold"
    )
    assert merged.retired == ("car", "home", "loans")


def test_parts_take_the_place_of_what_was_split() -> None:
    parts, names = edits.split(MADE, "home", ("New house", "Gold"), (("house",), ()))
    assert names == ("new-house", "gold-2")
    assert ids(parts) == ["car", "new-house", "gold-2", "gold"]
    assert parts.intents[1] == Intent("new-house", "New house", "loans", terms=("house",))
    assert Mapped("old", None) in parts.mapping
    assert parts.retired == ("home",)


def test_what_is_retired_is_continued_by_nothing() -> None:
    retired = edits.retire(MADE, "gold")
    assert (ids(retired), retired.retired) == (["car", "home"], ("cards", "gold"))
    assert retired.mapping == (Mapped("old", "home"), Mapped("gold", None))


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (partial(edits.rename, id_="car", label=" "), "a label is empty"),
        (partial(edits.rename, id_="car", label="x" * 201), "201 characters, expected at most 200"),
        (partial(edits.rename, id_="car", label="a\x07"), "all printable"),
        (partial(edits.rename, id_="car", label="a", description="\x1b"), "a description has 1 characters"),
        (partial(edits.rename, id_="none", label="a"), "'none' is no intent"),
        (partial(edits.move, id_="car", parent="gold"), "'gold' is no parent"),
        (partial(edits.merge, gone="car", into="car"), "into itself"),
        (partial(edits.merge, gone="car", into="loans"), "'loans' is no intent"),
        (lambda t: edits.retire(edits.retire(edits.retire(t, "car"), "home"), "gold"), "the only intent"),
    ],
)
def test_what_can_not_be_done_says_why(edit: Callable[[Taxonomy], Taxonomy], why: str) -> None:
    with pytest.raises(RefusedEditError, match=why):
        edit(MADE)


SESSIONS = 12
GIVEN = GivenLabels(
    ("car", "home", "gold"),
    "1",
    SoftLabels(np.arange(SESSIONS), np.eye(3, dtype=np.float32)[np.arange(SESSIONS) % 3]),
    SoftLabels(np.arange(SESSIONS), np.eye(3, dtype=np.float32)[np.arange(SESSIONS) % 3]),
)


@given(st.data())
def test_after_any_edits_ids_are_unique_and_every_session_has_one_label_or_none(data: st.DataObject) -> None:
    taxonomy, divisions = MADE, list[Division]()
    ever: dict[str, str] = {entry.id: entry.label for entry in entries(MADE)}
    for _ in range(data.draw(st.integers(0, 8))):
        before, text = taxonomy, to_json(taxonomy)
        one, other = (data.draw(st.sampled_from(ids(taxonomy))) for _ in range(2))
        kind = data.draw(st.sampled_from(["rename", "move", "new parent", "merge", "split", "retire"]))
        label = data.draw(st.sampled_from(["Car", "Home", "Gold", "loans"]))
        parent = data.draw(st.sampled_from([each.id for each in taxonomy.parents]))
        try:
            if kind == "split":
                taxonomy, parts = edits.split(taxonomy, one, (label, label), ((), ()))
                which = data.draw(st.integers(0, 2**SESSIONS - 1))
                bits = np.array([which >> n & 1 for n in range(SESSIONS)])
                divisions.append(Division(one, parts, bits, 1 - bits))
            else:
                taxonomy = {
                    "rename": lambda t: edits.rename(t, one, label),  # noqa: B023
                    "move": lambda t: edits.move(t, one, parent),  # noqa: B023
                    "new parent": lambda t: edits.move_to_new_parent(t, one, label),  # noqa: B023
                    "merge": lambda t: edits.merge(t, one, other),  # noqa: B023
                    "retire": lambda t: edits.retire(t, one),  # noqa: B023
                }[kind](taxonomy)
        except RefusedEditError:
            continue
        assert to_json(before) == text
        new = {entry.id: entry.label for entry in entries(taxonomy)}
        assert not new.keys() & set(taxonomy.retired)
        assert set(ever) <= new.keys() | set(taxonomy.retired)
        ever |= new
    taxonomy = replace(taxonomy, version=next_version(MADE.version))
    assert from_json(to_json(taxonomy)) == taxonomy  # ids are unique, parents exist
    assert {intent.parent for intent in taxonomy.intents} == {parent.id for parent in taxonomy.parents}
    try:
        train, validation = GIVEN.over(taxonomy, divisions)
    except EditError as error:
        assert "no labelled session has one" in str(error)  # noqa: PT017
        return
    for labels in (train, validation):
        assert labels.probabilities.shape == (len(labels.rows), len(taxonomy.intents))
        assert (np.sort(labels.probabilities, axis=1)[:, -1] == 1).all()
        assert (labels.probabilities.sum(1) == 1).all()
        assert set(labels.rows.tolist()) <= set(range(SESSIONS))
