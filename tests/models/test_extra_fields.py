"""Fields that a recipe adds: what they are learnt as, and the same tokens compiled or not."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.models.encoded import Encoded
from streamer.models.extra_fields import WORDS_KEPT, FieldError, FieldSpec, Number, Words
from streamer.models.fields import EVENT_FIELDS, LEARNT_FIELDS
from streamer.models.tokenizer import Tokenizer
from streamer.models.vocabulary import stable_hash
from streamer.schemas.click import Session
from tests.models.hand_made import a_click, a_session

PLAN, SIZE = "properties.plan", "properties.size"
SPECS = (
    FieldSpec("price", "number", buckets=8),
    FieldSpec("page_title", "text", hashed=512),
    FieldSpec(PLAN, "categorical", hashed=64),
    FieldSpec(SIZE, "number", buckets=4),
)
ARRAYS = ("event_ids", "dwell_z", "query_slot", "query_ids", "session_ids", "lengths")
OWN = len(EVENT_FIELDS)


def shop_sessions(count: int) -> list[Session]:
    """Of clicks whose price says the plan, most of them with a title."""
    rng = random.Random(1)
    sessions = []
    for i in range(count):
        plan = rng.choice(["gold", "silver", "basic"])
        clicks = []
        for j in range(rng.choice([2, 3, 5, 9])):
            price = round(rng.uniform(1, 10) * {"gold": 100, "silver": 10, "basic": 1}[plan], 2)
            extras = {PLAN: plan, SIZE: str(rng.randrange(36, 46)), "utm_source": "mail"}
            if j % 4:
                extras["page_title"] = f"{plan.title()} shoes number {rng.randrange(400)}"
            clicks.append(
                a_click(i * 60_000 + j * 7000, event_id=f"{i}-{j}", path="/shoes", price=price, extras=extras)
            )
        sessions.append(a_session(*clicks, visitor_id=f"v{i // 2}", session_id=f"{i:032x}"))
    return sessions


SESSIONS = shop_sessions(200)
_FITTED = Tokenizer.fit(SESSIONS, min_count=5, fields=SPECS, hashed={"product_id": 1000}).to_json()


def fitted() -> Tokenizer:
    return Tokenizer.from_json(_FITTED)


def extra_ids(tokenizer: Tokenizer, **fields: Any) -> list[int]:
    (encoded,) = tokenizer.encode([a_session(a_click(**fields))])
    found: list[int] = encoded.event_ids[0, 0, OWN:].tolist()
    return found


def test_each_field_has_columns_and_ids_of_its_own() -> None:
    tokenizer = fitted()
    assert tokenizer.event_columns == [*range(OWN), 10, *[11] * WORDS_KEPT, 12, 13]
    assert list(tokenizer.sizes)[OWN : OWN + 4] == ["price", "page_title", PLAN, SIZE]
    assert tokenizer.event_sizes[OWN:] == [9, 513, 1 + 64 + 3, 5]
    ids = extra_ids(tokenizer, price=25.0, extras={"page_title": "Gold shoes", PLAN: "gold", SIZE: "40"})
    words = [1 + stable_hash(word) % 512 for word in ("gold", "shoes")]
    assert ids[1 : 1 + WORDS_KEPT] == words + [0] * (WORDS_KEPT - 2)
    assert 1 <= ids[0] <= 8
    assert ids[-2] > 64
    assert 1 <= ids[-1] <= 4


def test_what_a_click_lacks_is_id_0() -> None:
    assert extra_ids(fitted()) == [0] * (3 + WORDS_KEPT)
    assert extra_ids(fitted(), extras={SIZE: ":account", "page_title": "?!"}) == [0] * (3 + WORDS_KEPT)


def test_a_value_that_was_never_learnt_is_in_the_tail() -> None:
    assert 1 <= extra_ids(fitted(), extras={PLAN: "platinum"})[-2] <= 64


def test_the_buckets_of_a_number_hold_about_as_many_clicks_each() -> None:
    found = np.concatenate([each.event_ids[each.event_ids[..., 4] > 0] for each in fitted().encode(SESSIONS)])
    share = np.bincount(found[:, OWN], minlength=9)[1:] / len(found)
    assert share.min() > 0.08
    assert share.max() < 0.18


def test_a_number_is_in_the_bucket_between_its_edges() -> None:
    number = Number("price", [1.0, 10.0])
    values = (None, "x", "nan", -5.0, 0.99, 1.0, "1.5", 10.0, 1e300, "inf")
    assert [number.ids(value)[0] for value in values] == [0, 0, 0, 1, 1, 2, 2, 3, 3, 0]


@given(st.dictionaries(st.floats(-1e9, 1e9), st.integers(1, 50), min_size=1), st.integers(2, 20))
def test_edges_are_in_order_and_fewer_than_the_buckets(counts: dict[float, int], buckets: int) -> None:
    edges = Number.learn("price", counts, buckets).edges
    assert list(edges) == sorted(set(edges))
    assert len(edges) < buckets
    assert set(edges) <= set(counts) - {min(counts)}


def test_a_text_has_its_first_distinct_words() -> None:
    text = "One one TWO three four five six seven eight nine"
    ids = Words("page_title", 1 << 16).ids(text)
    kept = ("one", "two", "three", "four", "five", "six", "seven", "eight")
    assert ids == tuple(1 + stable_hash(word) % (1 << 16) for word in kept)


ODD = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["gold", "12.5", "nan", "1e999", "\ud800"]))
CLICKS = st.builds(
    lambda price, **extras: a_click(
        price=price,
        extras={name: value for name, value in extras.items() if value is not None} or None,
    ),
    price=st.none() | st.floats(allow_nan=False),
    **dict.fromkeys(("page_title", PLAN, SIZE), ODD),
)


@pytest.mark.compiled
@settings(deadline=None, max_examples=100)
@given(st.lists(st.lists(CLICKS, min_size=1, max_size=12), min_size=1, max_size=6))
def test_compiled_or_not_the_tokens_are_the_same(clicks: list[list[Any]]) -> None:
    sessions = [a_session(*each) for each in clicks]
    ours, python = fitted(), fitted()
    python._compiled = None
    for _ in range(2):  # with caches that are empty, and then full
        assert same(ours.encode(sessions), python.encode(sessions))


def same(found: list[Encoded], expected: list[Encoded]) -> bool:
    return len(found) == len(expected) and all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for a, b in zip(found, expected, strict=True)
        for name in ("rows", *ARRAYS)
    )


@pytest.mark.compiled
def test_compiled_or_not_rows_may_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.models.extra_fields._CACHED", 500)
    ours, python = fitted(), fitted()
    python._compiled = None
    for start in range(0, 3000, 700):
        titles = [f"title {start + i}" for i in range(700)]
        sessions = [a_session(a_click(extras={"page_title": title}), a_click(price=2.0)) for title in titles]
        assert same(ours.encode(sessions), python.encode(sessions))


def test_a_tokenizer_with_fields_reads_back_the_same_bytes() -> None:
    assert fitted().to_json() == _FITTED
    document = json.loads(_FITTED)
    assert (document["version"], document["hashed"]) == (2, {"product_id": 1000})
    assert fitted().first_learnt[LEARNT_FIELDS.index("product_id")] == 1001
    assert "shoes" not in json.dumps(document["fields"])


def test_without_fields_the_file_is_of_version_1() -> None:
    assert json.loads(Tokenizer.fit(SESSIONS).to_json()).keys() == {
        "version",
        "dwell_log_seconds",
        "vocabularies",
    }


@pytest.mark.parametrize("spec", [FieldSpec("utm_term", "text", 9), FieldSpec(PLAN, "number", buckets=4)])
def test_a_field_that_no_click_has_is_an_error_that_names_it(spec: FieldSpec) -> None:
    with pytest.raises(FieldError, match=rf"^fields\.{spec.name}: no click of the training split has a"):
        Tokenizer.fit(SESSIONS, fields=[SPECS[0], spec])


@pytest.mark.parametrize(
    ("name", "table", "reason"),
    [
        ("age", {"kind": "number"}, r"^fields\.age: is no field"),
        ("price", {"kind": "text"}, r"^fields\.price\.kind: is 'text'; expected number"),
        ("page_title", {}, r"^fields\.page_title\.kind: is None; expected categorical, number, text"),
        (
            "page_title",
            {"kind": "text", "buckets": 4},
            r"buckets: is no key of a text; expected hashed, kind",
        ),
        ("price", {"kind": "number", "buckets": 1}, r"buckets: is 1; expected a whole number from 2 to 256"),
        (PLAN, {"kind": "categorical", "hashed": True}, r"hashed: is True"),
    ],
)
def test_a_wrong_field_of_a_recipe_is_refused(name: str, table: dict[str, Any], reason: str) -> None:
    with pytest.raises(FieldError, match=reason):
        FieldSpec.of(name, table)


def test_a_field_has_usual_sizes() -> None:
    assert FieldSpec.of("price", {"kind": "number"}) == FieldSpec("price", "number", buckets=16)
    assert FieldSpec.of("page_title", {"kind": "text"}) == FieldSpec("page_title", "text", 2048)
    assert FieldSpec.of(PLAN, {"kind": "categorical"}) == FieldSpec(PLAN, "categorical", 256)
