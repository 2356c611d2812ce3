from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.models.encoded import Encoded
from streamer.models.fields import EVENT_FIELDS, path_prefixes
from streamer.models.queries import QUERY_GRAMS, QUERY_SLOTS, query_ids
from streamer.models.tokenizer import Tokenizer
from streamer.schemas.click import KEPT_CLICKS, Click, Session
from tests.models.hand_made import a_click, a_session, bank_sessions, of_length

_FITTED = Tokenizer.fit(bank_sessions(300)).to_json()
ARRAYS = ("event_ids", "dwell_z", "query_slot", "query_ids", "session_ids", "lengths")


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.fit(bank_sessions(300))


def one(tokenizer: Tokenizer, session: Session) -> Encoded:
    (encoded,) = tokenizer.encode([session])
    return encoded


def ids(encoded: Encoded, field: str) -> list[int]:
    column: list[int] = encoded.event_ids[0, : encoded.lengths[0], EVENT_FIELDS.index(field)].tolist()
    return column


@pytest.mark.parametrize(
    ("path", "prefixes"),
    [
        ("/loans/mortgage/rates", ("/loans", "/loans/mortgage", "/loans/mortgage/rates")),
        ("/loans", ("/loans", None, None)),
        ("/", ("/", None, None)),
        (None, (None, None, None)),
    ],
)
def test_a_path_gives_its_prefixes(path: str | None, prefixes: tuple[str | None, ...]) -> None:
    assert path_prefixes(path) == prefixes


def test_each_depth_of_a_path_has_an_id_of_its_own(tokenizer: Tokenizer) -> None:
    encoded = one(tokenizer, a_session(a_click(path="/home/mortgage/rates")))
    for depth, prefix in enumerate(path_prefixes("/home/mortgage/rates"), 1):
        known = tokenizer.vocabularies[f"path_{depth}"].id_of(prefix)
        assert ids(encoded, f"path_{depth}") == [known]
        assert known > 32


def test_a_session_of_unknown_values_is_hashed_not_refused(tokenizer: Tokenizer) -> None:
    encoded = one(tokenizer, a_session(a_click(path="/never/seen", element="new", category="c")))
    for field in ("path_1", "path_2", "element", "category"):
        assert 1 <= ids(encoded, field)[0] <= 32
    assert ids(encoded, "path_3") == ids(encoded, "product_id") == [0]


def test_a_site_without_paths_queries_or_page_types_is_learnt_from_what_it_has() -> None:
    shop = [
        a_session(a_click(0, product_id=f"p{i % 3}", element="gallery"), a_click(900, category="hats"))
        for i in range(40)
    ]
    tokenizer = Tokenizer.fit(shop)
    encoded = one(tokenizer, shop[0])
    assert ids(encoded, "product_id")[0] > 32
    assert ids(encoded, "category")[1] > 32
    assert not encoded.query_ids.any()


@pytest.mark.parametrize(("clicks", "width"), [(1, 8), (8, 8), (9, 16), (17, 32), (33, 64), (64, 64)])
def test_a_session_goes_into_the_shortest_length_that_holds_it(
    tokenizer: Tokenizer, clicks: int, width: int
) -> None:
    encoded = one(tokenizer, of_length(clicks))
    assert encoded.event_ids.shape == (1, width, len(EVENT_FIELDS))
    assert encoded.lengths.tolist() == [clicks]
    assert not encoded.event_ids[0, clicks:].any()


@pytest.mark.parametrize("clicks", [0, KEPT_CLICKS + 1])
def test_no_clicks_or_too_many_are_refused(tokenizer: Tokenizer, clicks: int) -> None:
    with pytest.raises(ValueError, match=f"expected 1 to {KEPT_CLICKS}|not 1 to {KEPT_CLICKS}"):
        tokenizer.encode([of_length(clicks)])


def test_no_sessions_give_no_arrays(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([]) == []


def test_the_same_query_has_one_slot(tokenizer: Tokenizer) -> None:
    clicks = [a_click(i * 10, search_query=q) for i, q in enumerate(["gold", "Gold", None, "loan"])]
    encoded = one(tokenizer, a_session(*clicks))
    assert encoded.query_slot[0, :4].tolist() == [2, 2, 0, 1]
    assert encoded.query_ids[0, 1, : len(query_ids("gold"))].tolist() == list(query_ids("gold"))


def test_the_last_distinct_queries_get_the_slots(tokenizer: Tokenizer) -> None:
    clicks = [a_click(i * 10, search_query=f"query number{i}") for i in range(QUERY_SLOTS + 2)]
    encoded = one(tokenizer, a_session(*clicks))
    assert encoded.query_slot[0, : len(clicks)].tolist() == [0, 0, 4, 3, 2, 1]
    assert encoded.query_ids.shape == (1, QUERY_SLOTS, QUERY_GRAMS)


def test_a_query_without_words_is_no_query(tokenizer: Tokenizer) -> None:
    assert not one(tokenizer, a_session(a_click(search_query="?!"))).query_slot.any()


def test_device_and_referrer_are_the_first_that_a_click_names(tokenizer: Tokenizer) -> None:
    session = a_session(a_click(0), a_click(10, device="mobile"), a_click(20, device="desktop"))
    device = tokenizer.vocabularies["device"].id_of("mobile")
    assert one(tokenizer, session).session_ids.tolist() == [
        [device, 0, 1 + session.started_at // 3_600_000 % 24]
    ]


def test_vocabularies_come_from_the_sessions_given_alone() -> None:
    tokenizer = Tokenizer.fit([of_length(10, path="/known")])
    assert tokenizer.vocabularies["path_1"].values == ("/known",)


def test_nothing_to_learn_from_is_said() -> None:
    with pytest.raises(ValueError, match="at least one session"):
        Tokenizer.fit([])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_tokens_do_not_depend_on_the_batch(seed: int) -> None:
    tokenizer = Tokenizer.from_json(_FITTED)
    sessions = bank_sessions(12, seed)
    together = {
        int(row): [getattr(encoded, name)[i].tobytes() for name in ARRAYS]
        for encoded in tokenizer.encode(sessions)
        for i, row in enumerate(encoded.rows)
    }
    for row, session in enumerate(sessions):
        alone = one(tokenizer, session)
        assert [getattr(alone, name)[0].tobytes() for name in ARRAYS] == together[row]


ODD_TEXTS = st.none() | st.sampled_from(
    [
        "",
        "/",
        "/home/mortgage/rates",
        "//a",
        "product",
        "\ud800",
        "mortgage rates",
        "!",
        "credit card",
        "a b",
        "é",
    ]
)
ODD_CLICKS = st.builds(
    Click,
    timestamp=st.integers(0, 10**6) | st.sampled_from([-(2**63), 2**63 - 1, 10**12]),
    event_id=st.just("e"),
    event_type=st.sampled_from(["page_view", "", "new"]),
    page_type=ODD_TEXTS,
    path=ODD_TEXTS,
    dwell_ms=st.none()
    | st.integers(-5, 10**5)
    | st.sampled_from([-(2**63), 2**63 - 1, 249, 250, 86_400_001]),
    search_query=ODD_TEXTS,
    element=ODD_TEXTS,
    category=ODD_TEXTS,
    product_id=ODD_TEXTS,
    device=ODD_TEXTS,
    referrer=ODD_TEXTS,
)


def odd_session(clicks: list[Click], times: int, cut: int) -> Session:
    return a_session(*(clicks * times)[:KEPT_CLICKS], cut=cut)


ODD_SESSIONS = st.builds(
    odd_session, st.lists(ODD_CLICKS, min_size=1, max_size=12), st.sampled_from([1, 2, 64]), st.integers(0, 1)
)


@pytest.mark.compiled
@settings(deadline=None, max_examples=200)
@given(st.lists(ODD_SESSIONS, min_size=1, max_size=8))
def test_compiled_or_not_the_tokens_are_the_same(sessions: list[Session]) -> None:
    ours, python = Tokenizer.from_json(_FITTED), Tokenizer.from_json(_FITTED)
    python._compiled = None
    for _ in range(2):  # with caches that are empty, and then full
        for found, expected in zip(ours.encode(sessions), python.encode(sessions), strict=True):
            for name in ("rows", *ARRAYS):
                ours_of, theirs = getattr(found, name), getattr(expected, name)
                assert (ours_of.dtype, ours_of.shape) == (theirs.dtype, theirs.shape)
                assert ours_of.tobytes() == theirs.tobytes()


@pytest.mark.compiled
def test_compiled_or_not_caches_may_grow_and_start_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.models.tokenizer._CACHED", 2000)
    ours, python = Tokenizer.from_json(_FITTED), Tokenizer.from_json(_FITTED)
    python._compiled = None
    for start in range(0, 6000, 1500):
        numbered = [f"/{start + i}" for i in range(1500)]
        sessions = [a_session(a_click(path=text, search_query=text)) for text in numbered]
        (found,), (expected,) = ours.encode(sessions), python.encode(sessions)
        for name in ARRAYS:
            assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()


def digest_of_tokens() -> str:
    """For this test's other process too."""
    encoded = Tokenizer.fit(bank_sessions(60)).encode(bank_sessions(20, seed=1))
    return hashlib.sha256(
        b"".join(getattr(e, name).tobytes() for e in encoded for name in ARRAYS)
    ).hexdigest()


def test_tokens_do_not_depend_on_pythons_hash_seed() -> None:
    code = "from tests.models.test_tokenizer import digest_of_tokens; print(digest_of_tokens())"
    run = [sys.executable, "-c", code]
    other = subprocess.run(run, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"})
    assert other.stdout.strip() == digest_of_tokens()


def test_a_tokenizer_reads_back_the_same_bytes(tokenizer: Tokenizer) -> None:
    text = tokenizer.to_json()
    read = Tokenizer.from_json(text)
    assert read.to_json() == text
    sessions = bank_sessions(20, seed=5)
    for ours, theirs in zip(tokenizer.encode(sessions), read.encode(sessions), strict=True):
        assert all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in ARRAYS)


def _changed(**fields: Any) -> str:
    return json.dumps(json.loads(_FITTED) | fields)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not valid JSON"),
        ("[]", "version 1"),
        (_changed(version=3), "version 1 or 2"),
        (_changed(fields=[]), "which are of version 2"),
        (_changed(version=2, hashed={"dwell": 9}), "no other fields"),
        (_changed(version=2, hashed={"device": 0}), "hashed.device"),
        (_changed(version=2, fields={}), "a list of objects"),
        (_changed(version=2, fields=[{"name": "age", "kind": "number", "edges": []}]), "name"),
        (_changed(version=2, fields=[{"name": "price", "kind": "number", "edges": [2, 1]}]), "in order"),
        (_changed(version=2, fields=[{"name": "page_title", "kind": "text", "hashed": 0}]), "hashed"),
        (_changed(version=2, fields=[{"name": "page_title", "kind": "word", "hashed": 9}]), "categorical"),
        (_changed(version=2, fields=2 * [{"name": "page_title", "kind": "text", "hashed": 9}]), "twice"),
        (_changed(vocabularies={}), "exactly the fields"),
        (_changed(vocabularies=json.loads(_FITTED)["vocabularies"] | {"device": [1]}), "device"),
        (_changed(vocabularies=json.loads(_FITTED)["vocabularies"] | {"device": ["a", "a"]}), "twice"),
        (_changed(dwell_log_seconds={"mean": 0, "std": 0}), "std above 0"),
        (_changed(dwell_log_seconds={"mean": float("nan"), "std": 1}), "finite"),
        (_changed(dwell_log_seconds={"mean": 0, "std": 10**400}), "finite"),
    ],
)
def test_what_is_no_tokenizer_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Tokenizer.from_json(text)
