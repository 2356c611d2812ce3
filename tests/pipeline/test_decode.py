from __future__ import annotations

import gc
import json
from dataclasses import asdict
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.pipeline.decode import MAX_CLOCK_LAG_MS, MAX_DWELL_MS, Arrived, ClickDecoder, Format, Rejected
from streamer.pipeline.normalize import Memo, Paths
from streamer.schemas import codec
from tests.bad_clicks import ARRIVAL_MS, BAD_CLICKS, GOOD, BadClick, click
from tests.click_fuzz import cases, end_of

FOUND_AFTER_DECODING = {"event_time_before_min", "event_time_in_future"}


def decode(value: bytes | None, **options: Any) -> Arrived | None:
    return ClickDecoder(**options).decode(value, ARRIVAL_MS, "topic-0-17")


def arrived(value: bytes, **options: Any) -> Arrived:
    result = decode(value, **options)
    assert result is not None
    return result


def refusal(value: bytes | None, **options: Any) -> tuple[str, str]:
    with pytest.raises(Rejected) as refused:
        decode(value, **options)
    return refused.value.stage, refused.value.reason


@pytest.mark.parametrize("bad", BAD_CLICKS, ids=lambda bad: bad.name)
def test_bad_input_comes_to_its_expected_end(bad: BadClick) -> None:
    if bad.stage == "filtered":
        assert decode(bad.value) is None
    elif bad.stage == "ok" or bad.reason in FOUND_AFTER_DECODING:
        assert decode(bad.value) is not None
    else:
        assert refusal(bad.value) == (bad.stage, bad.reason)


# Format and size


@pytest.mark.parametrize("format", ["auto", "json"])
@pytest.mark.parametrize("start", [b"", b" ", b"\r\n\t"])
def test_json_may_begin_with_white_space(format: Format, start: bytes) -> None:
    assert arrived(start + click(), format=format).visitor_id == "bad-1"


@pytest.mark.parametrize("format", ["auto", "avro"])
def test_avro_is_known_by_its_zero_byte(format: Format) -> None:
    assert arrived(codec.encode("click", GOOD), format=format).visitor_id == "bad-1"


def test_a_format_that_is_set_refuses_the_other() -> None:
    assert refusal(codec.encode("click", GOOD), format="json") == ("decode", "invalid_json")
    assert refusal(click(), format="avro") == ("decode", "unknown_format")


def test_the_newer_prefix_with_a_guid_is_refused_by_its_own_name() -> None:
    value = b"\x01" + bytes(16) + codec.encode_body("click", GOOD)
    assert refusal(value) == refusal(value, format="avro") == ("decode", "unsupported_magic_byte")


def test_size_is_bounded_inclusively_and_before_parsing() -> None:
    assert arrived(click(), max_bytes=len(click()))
    assert refusal(click(), max_bytes=len(click()) - 1) == ("decode", "too_large")
    assert refusal(b"{" * 100, max_bytes=99) == ("decode", "too_large")


def test_what_comes_deep_in_the_stack_is_judged_the_same() -> None:
    """Otherwise a replay, called from elsewhere, could refuse what the worker took."""
    value = click(x=json.loads("[" * 120 + "]" * 120), y=" " * 600)

    def at_depth(levels: int) -> Arrived | None:
        return at_depth(levels - 1) if levels else decode(value)

    assert at_depth(0) == at_depth(400)


# What a click becomes


def test_a_click_is_made_canonical() -> None:
    result = arrived(
        click(
            event_id="e1",
            page_type="Product",
            page_url="https://www.bank.example/Loans/Mortgage%20Rates/fixed/10?utm=1#top",
            search_query="  Fixed\tRATE  ",
            element="apply",
            referrer="https://www.Search.example/?q=secret",
            dwell_ms=1500,
            product_id="P-1",
            category="loans",
            price=3.5,
            device="mobile",
            user_id="c-1",
        )
    )
    assert asdict(result.click) == {
        "timestamp": ARRIVAL_MS,
        "event_id": "e1",
        "event_type": "page_view",
        "page_type": "Product",
        "path": "/loans/mortgage-rates/fixed",
        "dwell_ms": 1500,
        "search_query": "fixed rate",
        "element": "apply",
        "category": "loans",
        "product_id": "P-1",
        "price": 3.5,
        "device": "mobile",
        "referrer": "www.search.example",
        "extras": None,
    }
    assert (result.visitor_id, result.user_id, result.crawler) == ("bad-1", "c-1", False)


@pytest.mark.parametrize("event_id", [None, ""])
def test_a_click_without_an_event_id_takes_the_fallback(event_id: str | None) -> None:
    assert arrived(click(event_id=event_id)).click.event_id == "topic-0-17"


@pytest.mark.parametrize(
    "field", ["page_type", "element", "category", "product_id", "device", "search_query"]
)
def test_an_empty_text_is_none(field: str) -> None:
    assert getattr(arrived(click(**{field: ""})).click, field) is None


def test_an_empty_user_id_is_none() -> None:
    assert arrived(click(user_id="")).user_id is None


@pytest.mark.parametrize(
    ("dwell_ms", "kept"),
    [(0, 0), (12.75, 12), (MAX_DWELL_MS, MAX_DWELL_MS), (MAX_DWELL_MS + 1, None), (-1, None), (-0.5, None)],
)
def test_an_impossible_dwell_is_none(dwell_ms: float, kept: int | None) -> None:
    assert arrived(click(dwell_ms=dwell_ms)).click.dwell_ms == kept


@pytest.mark.parametrize("price", [float("nan"), float("inf"), float("-inf")])
def test_a_price_that_is_no_number_is_none(price: float) -> None:
    assert arrived(codec.encode("click", {**GOOD, "price": price})).click.price is None


@pytest.mark.parametrize(
    ("field", "max_bytes"),
    [
        *(
            (field, 64)
            for field in ("event_type", "page_type", "element", "category", "device", "search_query")
        ),
        ("product_id", 128),
    ],
)
def test_a_long_text_is_cut_between_characters(field: str, max_bytes: int) -> None:
    kept = getattr(arrived(click(**{field: "aé" * 100})).click, field)
    assert len(kept.encode()) in (max_bytes, max_bytes - 1)
    assert ("aé" * 100).startswith(kept)


def test_personal_data_leaves_every_text_that_is_kept() -> None:
    private = "call 555-123-4567 or jo@mail.example"
    texts = (
        "page_type",
        "page_url",
        "search_query",
        "element",
        "category",
        "device",
        "event_type",
        "referrer",
    )
    kept = arrived(click(**dict.fromkeys(texts, private), page_title=private))
    assert "4567" not in repr(kept)
    assert "jo" not in repr(kept.click)


def test_text_that_was_scrubbed_is_not_remembered() -> None:
    decoder = ClickDecoder()
    values = [
        click(search_query="jo@mail.example", page_url="/u/jo%40mail.example", element="4111 1111 1111 1111")
    ]
    values.append(click(search_query="rates", page_url="/rates", element="menu"))
    for value in values:
        decoder.decode(value, ARRIVAL_MS, "f")
    remembered = " ".join(_texts_within(decoder))
    assert "rates" in remembered
    assert "jo" not in remembered
    assert "4111" not in remembered


def _texts_within(decoder: ClickDecoder) -> set[str]:
    """Every text in its tables, wherever either build keeps them."""
    found: set[str] = set()
    left: list[object] = [decoder]
    while left:
        each = left.pop()
        if isinstance(each, str):
            found.add(each)
        elif isinstance(each, dict | Memo | Paths | ClickDecoder):
            left += gc.get_referents(each)
    return found


def test_a_crawler_is_known_by_its_user_agent() -> None:
    assert arrived(click(user_agent="Mozilla/5.0 (compatible; Googlebot/2.1)")).crawler
    assert not arrived(click(user_agent="Mozilla/5.0 (X11; Linux x86_64) Firefox/141.0")).crawler


# Times


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-19T00:00:00Z", ARRIVAL_MS),
        ("2026-11-19t01:30:00.25+01:30", ARRIVAL_MS + 250),
        ("2026-11-18 19:00:00.0019-05:00", ARRIVAL_MS + 1),
        ("1969-12-31T23:59:59.999Z", -1),
    ],
)
def test_a_time_may_be_rfc_3339_with_an_offset(text: str, ms: int) -> None:
    assert arrived(click(timestamp=text)).click.timestamp == ms


def test_a_whole_number_may_be_spelt_with_a_point() -> None:
    assert arrived(click(timestamp=float(ARRIVAL_MS))).click.timestamp == ARRIVAL_MS
    assert type(arrived(click(timestamp=float(ARRIVAL_MS))).click.timestamp) is int


@pytest.mark.parametrize("clock_error_ms", [-3_600_000, 0, 86_400_000, -ARRIVAL_MS])
def test_sent_at_corrects_a_wrong_clock(clock_error_ms: int) -> None:
    timestamp = ARRIVAL_MS + clock_error_ms
    assert arrived(click(timestamp=timestamp, sent_at=timestamp + 700)).click.timestamp == ARRIVAL_MS - 700


@pytest.mark.parametrize("behind_ms", [MAX_CLOCK_LAG_MS + 1, 3 * 86_400_000, 36 * 365 * 86_400_000])
def test_a_click_that_was_sent_long_before_it_arrived_keeps_its_time(behind_ms: int) -> None:
    sent_at = ARRIVAL_MS - behind_ms
    assert arrived(click(timestamp=sent_at - 700, sent_at=sent_at)).click.timestamp == sent_at - 700


@pytest.mark.parametrize(
    "sent_at", [ARRIVAL_MS - MAX_CLOCK_LAG_MS, 631_152_000_000 - 1, 0, ARRIVAL_MS + 2**50]
)
def test_a_clock_is_corrected_if_it_is_a_little_behind_or_was_never_set_or_runs_ahead(sent_at: int) -> None:
    assert arrived(click(timestamp=sent_at - 700, sent_at=sent_at)).click.timestamp == ARRIVAL_MS - 700


def test_sent_at_and_timestamp_may_be_spelt_differently() -> None:
    result = arrived(click(timestamp=ARRIVAL_MS - 5, sent_at="2026-11-19T00:00:00Z"))
    assert result.click.timestamp == ARRIVAL_MS - 5


def test_without_an_arrival_time_sent_at_corrects_nothing_and_is_still_checked() -> None:
    value = click(timestamp=ARRIVAL_MS, sent_at=ARRIVAL_MS + 700)
    result = ClickDecoder().decode(value, None, "line-1")
    assert result is not None
    assert result.click.timestamp == ARRIVAL_MS
    with pytest.raises(Rejected, match="wrong_type:sent_at"):
        ClickDecoder().decode(click(sent_at=0.5), None, "line-1")


# Consent and errors


@pytest.mark.parametrize("consent", [True, None])
def test_consent_given_or_unknown_lets_a_click_pass(consent: bool | None) -> None:
    assert arrived(click(consent=consent))


@pytest.mark.parametrize(
    "wrong", [{"timestamp": 2**70}, {"visitor_id": ""}, {"event_type": ""}, {"event_id": "e" * 999}]
)
def test_a_click_without_consent_is_filtered_even_if_it_breaks_rules(wrong: dict[str, Any]) -> None:
    assert decode(click(**wrong, consent=False)) is None


@pytest.mark.parametrize(
    ("spelt", "kept"),
    [
        (b"cut \\ud83d", "cut \ufffd"),
        (b"\\uDE00 cut", "\ufffd cut"),
        (b"\\ud83d\\uD83D\\udE00", "\ufffd\U0001f600"),
        (b"\\ud83d\\u0031", "\ufffd1"),
        (b"\\\\ud83d \\ude00", "\\ud83d \ufffd"),
    ],
)
def test_half_a_character_becomes_the_replacement_character(spelt: bytes, kept: str) -> None:
    value = click()[:-1] + b', "search_query": "' + spelt + b'"}'
    assert arrived(value).click.search_query == kept


@pytest.mark.parametrize("field", [b"visitor_id", b"event_id", b"user_id"])
def test_an_id_with_half_a_character_is_refused_for_two_could_become_one(field: bytes) -> None:
    value = click()[:-1] + b', "' + field + b'": "v\\ud83d"}'
    assert refusal(value) == ("decode", "invalid_json")


def test_an_error_never_tells_what_was_sent() -> None:
    secret = "4111111111111111"
    for value in (
        click(visitor_id=[secret]),
        click(timestamp=secret),
        click(**{secret: secret, "element": {secret: secret}}),
        click(price={secret: 1}),
        secret.encode(),
        b'{"' + secret.encode(),
    ):
        with pytest.raises(Rejected) as refused:
            decode(value)
        chain = [refused.value, refused.value.__cause__]
        assert secret not in repr(chain) + str(refused.value)
        assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_avro_and_json_of_a_click_give_the_same() -> None:
    record = {**GOOD, "page_url": "/a/b", "price": 2.0, "sent_at": ARRIVAL_MS, "properties": {"a": "b"}}
    assert decode(json.dumps(record).encode()) == decode(codec.encode("click", record))


def test_every_field_arrives_alike_from_avro_and_json() -> None:
    optional = {f["name"]: f["type"][1] for f in codec.schema("click")["fields"] if f["type"][0] == "null"}
    texts = {name: f"Text of {name}" for name, of_type in optional.items() if of_type == "string"}
    record = {**GOOD, **texts, "sent_at": ARRIVAL_MS, "dwell_ms": 7, "price": 2.5, "consent": True}
    assert decode(json.dumps(record).encode()) == decode(codec.encode("click", record))


def test_the_fields_that_are_read_are_those_of_the_schema() -> None:
    names = [field["name"] for field in codec.schema("click")["fields"]]
    for name in names:
        stage, reason = refusal(click(**{name: [[]]}))
        assert (stage, reason) == ("validate", f"wrong_type:{name}")


def test_the_same_bytes_give_the_same_click_whatever_came_before() -> None:
    worn = ClickDecoder()
    for number in range(300):
        worn.decode(click(page_url=f"/p/{number}", search_query=f"q{number}"), ARRIVAL_MS, "f")
    value = click(page_url="/p/7/x", search_query="q7 ", element="Q7")
    assert worn.decode(value, ARRIVAL_MS, "f") == worn.decode(value, ARRIVAL_MS, "f")
    assert worn.decode(value, ARRIVAL_MS, "f") == ClickDecoder().decode(value, ARRIVAL_MS, "f")


@pytest.mark.parametrize("seed", range(4))
def test_anything_ends_as_a_click_or_a_rejection(seed: int) -> None:
    """Thousands of damaged clicks; `python -m tests.click_fuzz 1000000` tries a million."""
    decoder = ClickDecoder()
    ends = {end_of(decoder, value) for value in islice(cases(seed), 2500)}
    assert {"arrived", "invalid_json", "invalid_avro", "invalid_utf8", "unknown_format"} <= ends


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([b"", b"{", b'{"visitor_id":"', codec.encode("click", GOOD)[:5]]), st.binary(max_size=200)
)
def test_random_bytes_end_as_a_click_or_a_rejection(start: bytes, rest: bytes) -> None:
    assert end_of(ClickDecoder(), start + rest)


# Remembered texts


@pytest.mark.parametrize("seed", range(4))
def test_what_was_decoded_before_changes_nothing(seed: int) -> None:
    """Each is decoded twice, the second time with its texts remembered."""
    worn = ClickDecoder()
    for value in islice(cases(100 + seed), 2500):
        for arrival in (ARRIVAL_MS, None):
            assert _end(worn, value, arrival) == _end(worn, value, arrival)


def _end(decoder: ClickDecoder, value: bytes, arrival: int | None) -> str:
    """By type as well: a dwell of 5 is not one of 5.0."""
    try:
        return repr(decoder.decode(value, arrival, "fallback"))
    except Rejected as refused:
        return str(refused)


@pytest.mark.parametrize(
    "changed",
    [
        {"timestamp": 2**60 - 1},
        {"timestamp": -(2**63), "sent_at": None},
        {"timestamp": 2**63 - 1, "sent_at": 2**63 - 1},
        {"timestamp": 1, "sent_at": -(2**60)},
        {"visitor_id": "v" * 256},
        {"visitor_id": "é" * 128},
        {"event_id": "é" * 129},
        {"user_id": "", "event_id": ""},
        {"product_id": "p" * 128},
        {"product_id": "p" * 129},
        {"product_id": "é" * 65},
        {"page_url": "https://b.example/p/1234567?x"},
        {"page_url": "https://b.example/p/12345678"},
        {"page_url": "https://b.example/p/١٢٣٤"},
        {"page_url": "https://b.example/p/123"},
        {"page_url": "https://b.example/2024/1234"},
        {"page_url": "?/1234"},
        {"page_url": "/1234"},
        {"page_url": "1234"},
        {"referrer": "?q=1"},
        {"dwell_ms": 0},
        {"dwell_ms": MAX_DWELL_MS + 1},
        {"dwell_ms": 12.75},
        {"dwell_ms": 2**62},
        {"price": 3},
    ],
)
def test_what_is_barely_usual_is_the_same_once_remembered(changed: dict[str, Any]) -> None:
    worn, value = ClickDecoder(), click(**changed)
    assert (
        _end(worn, value, ARRIVAL_MS)
        == _end(worn, value, ARRIVAL_MS)
        == _end(ClickDecoder(), value, ARRIVAL_MS)
    )
