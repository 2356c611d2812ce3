"""What becomes of a record by a mapping: values, conditions, what is filtered, what is refused."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.pipeline.bots import CALLED_A_BOT
from streamer.pipeline.decode import ClickDecoder, Rejected
from streamer.pipeline.mapping.leaves import LeafReader
from streamer.pipeline.mapping.path import walk
from streamer.pipeline.mapping.plan import CLICK_FIELDS, CompiledMapping
from streamer.pipeline.mapping.spec import read_mapping

NOON_MS = 1_709_812_800_000
RECORD = {
    "id": "v-1",
    "at": NOON_MS,
    "kind": "view",
    "page": {"url": "https://bank.example/loans?q=car+loan&x=1"},
}


def compiled(fields: str = "", events: str = '[[event]]\ntype = "kind"', top: str = "") -> CompiledMapping:
    """Of a file that has visitor, time and type, unless `fields` gives them."""
    given = {line.split("=")[0].strip() for line in fields.splitlines()}
    base = {"visitor_id": '"id"', "timestamp": '{ from = "at", unit = "ms" }'}
    own = "\n".join(f"{name} = {value}" for name, value in base.items() if name not in given)
    return CompiledMapping(read_mapping(f"{top}\n[fields]\n{own}\n{fields}\n{events}\n", "mine"))


def fields_of(mapping: CompiledMapping, **record: Any) -> dict[str, Any] | None:
    """The fields that were found in a record: RECORD with changes; `...` takes a key away."""
    changed = {name: value for name, value in {**RECORD, **record}.items() if value is not ...}
    found = mapping.read(json.dumps(changed).encode())
    if found is None:
        return None
    return {name: value for name, value in zip(CLICK_FIELDS, found, strict=True) if value is not None}


def value_of(field: str, source: str, **record: Any) -> Any:
    found = fields_of(compiled(f"{field} = {source}"), **record)
    assert found is not None
    return found.get(field)


def refusal(mapping: CompiledMapping, **record: Any) -> str:
    with pytest.raises(Rejected) as refused:
        fields_of(mapping, **record)
    return f"{refused.value.stage} {refused.value.reason}"


def test_a_record_becomes_a_click() -> None:
    assert fields_of(compiled('page_url = "page.url"')) == {
        "visitor_id": "v-1",
        "timestamp": NOON_MS,
        "event_type": "view",
        "page_url": RECORD["page"]["url"],  # type: ignore[index]
    }


# Values


@pytest.mark.parametrize(
    ("unit", "given", "ms"),
    [
        ("s", NOON_MS // 1000, NOON_MS),
        ("s", NOON_MS / 1000 + 0.25, NOON_MS + 250),
        ("s", str(NOON_MS // 1000), NOON_MS),
        ("ms", NOON_MS, NOON_MS),
        ("ms", str(NOON_MS), NOON_MS),
        ("us", NOON_MS * 1000 + 999, NOON_MS),
        ("us", str(NOON_MS * 1000), NOON_MS),
        ("ns", NOON_MS * 1_000_000 + 999_999, NOON_MS),
        ("iso8601", "2024-03-07T12:00:00Z", NOON_MS),
        ("iso8601", "2024-03-07T13:00:00.250999+01:00", NOON_MS + 250),
        ("iso8601_utc", "2024-03-07 12:00:00.250", NOON_MS + 250),
        ("iso8601_utc", "2024-03-07T13:00:00+01:00", NOON_MS),
    ],
)
def test_times_have_a_unit(unit: str, given: Any, ms: int) -> None:
    mapping = compiled(f'timestamp = {{ from = "at", unit = "{unit}" }}')
    found = fields_of(mapping, at=given)
    assert found is not None
    assert found["timestamp"] == ms


@pytest.mark.parametrize(
    ("unit", "given", "reason"),
    [
        ("ms", ..., "missing_field:timestamp"),
        ("ms", "", "missing_field:timestamp"),
        ("ms", None, "missing_field:timestamp"),
        ("ms", "noon", "invalid_time:timestamp"),
        ("ms", True, "wrong_type:timestamp"),
        ("ms", [1], "wrong_type:timestamp"),
        ("s", 1e300, "out_of_range:timestamp"),
        ("s", 10**40, "out_of_range:timestamp"),
        ("iso8601", "2024-03-07T12:00:00", "missing_offset:timestamp"),
        ("iso8601", "7 March", "invalid_time:timestamp"),
        ("iso8601", NOON_MS, "wrong_type:timestamp"),
    ],
)
def test_a_time_that_cannot_be_read_is_a_dead_letter(unit: str, given: Any, reason: str) -> None:
    mapping = compiled(f'timestamp = {{ from = "at", unit = "{unit}" }}')
    assert refusal(mapping, at=given) == f"validate {reason}:mine"


@pytest.mark.parametrize(
    ("field", "source", "given", "value"),
    [
        ("element", '"x"', "menu", "menu"),
        ("element", '"x"', 7, "7"),
        ("element", '"x"', "", None),
        ("element", '"x"', None, None),
        ("element", '"x"', True, None),
        ("element", '"x"', ["menu"], None),
        ("element", '["none", "x"]', "menu", "menu"),
        ("element", '["x.y", "id"]', "menu", "v-1"),
        ("element", '{ from = ["none", "x"] }', "menu", "menu"),
        ("element", '{ constant = "menu" }', "x", "menu"),
        ("element", '{ from = "x", default = "menu" }', None, "menu"),
        ("element", '{ from = "x", default = "menu" }', "top", "top"),
        ("device", '{ from = "x", map = { m = "mobile" } }', "m", "mobile"),
        ("device", '{ from = "x", map = { m = "mobile" } }', "tv", "tv"),
        ("device", '{ from = "x", map = { true = "mobile" }, otherwise = "desktop" }', True, "mobile"),
        ("device", '{ from = "x", map = { true = "mobile" }, otherwise = "desktop" }', False, "desktop"),
        ("price", '"x"', 9.5, 9.5),
        ("price", '"x"', 9, 9.0),
        ("price", '"x"', "9.50", 9.5),
        ("price", '"x"', "nan", None),
        ("price", '"x"', 10**400, None),
        ("price", '"x"', "dear", None),
        ("dwell_ms", '"x"', 1500, 1500),
        ("dwell_ms", '{ from = "x", unit = "s" }', 1.5, 1500),
        ("dwell_ms", '{ from = "x", unit = "s" }', "12", 12_000),
        ("dwell_ms", '{ from = "x", unit = "s" }', 1e300, None),
        ("dwell_ms", '"x"', "long", None),
    ],
)
def test_a_field_is_read_as_its_source_says(field: str, source: str, given: Any, value: Any) -> None:
    assert value_of(field, source, x=given) == value


@pytest.mark.parametrize(
    ("url", "query"),
    [
        ("https://bank.example/find?q=car+loan", "car loan"),
        ("https://bank.example/find?x=1&query=f%C3%BCr#q=no", "für"),
        ("https://bank.example/find?query=second&q=first", "first"),
        ("https://bank.example/find?q=&query=second", "second"),
        ("https://bank.example/find?qq=1", None),
        ("https://bank.example/find", None),
        (7, None),
    ],
)
def test_a_search_term_may_come_from_a_parameter_of_the_address(url: Any, query: str | None) -> None:
    assert value_of("search_query", '{ from = "x", parameter = ["q", "query"] }', x=url) == query


@pytest.mark.parametrize("field", ["event_id", "user_id"])
@pytest.mark.parametrize(("given", "found"), [("a", "a"), (12, "12"), ("", None), (None, None)])
def test_ids_may_be_numbers_or_missing(field: str, given: Any, found: str | None) -> None:
    assert value_of(field, '"x"', x=given) == found


@pytest.mark.parametrize("field", ["visitor_id", "event_id", "user_id"])
@pytest.mark.parametrize("given", [True, 1.5, ["a"], {"a": 1}])
def test_an_id_of_another_type_is_a_dead_letter_that_names_field_and_mapping(field: str, given: Any) -> None:
    assert refusal(compiled(f'{field} = "x"'), x=given) == f"validate wrong_type:{field}:mine"


def test_nothing_remains_missing_but_what_no_click_can_be_without() -> None:
    assert refusal(compiled(), id=...) == "validate missing_field:visitor_id:mine"
    assert refusal(compiled(), kind="") == "validate missing_field:event_type:mine"


def test_a_name_in_the_file_comes_before_that_of_the_file() -> None:
    assert refusal(compiled(top='name = "shop-2"'), id=...) == "validate missing_field:visitor_id:shop-2"


# Which events are clicks

RULES = """
[[event]]
when = { kind = ["view", "screen"] }
type = { constant = "page_view" }
fields = { page_type = { constant = "page" } }

[[event]]
when = { kind = "act", "page.button" = "*" }
type = "page.button"

[[event]]
when = { kind = "act", "page.button" = "" }
type = { constant = "act" }

[[event]]
when = { kind = "ping" }
drop = true
"""


@pytest.mark.parametrize(
    ("record", "event_type"),
    [
        ({"kind": "view"}, "page_view"),
        ({"kind": "screen"}, "page_view"),
        ({"kind": "act", "page": {"button": "menu"}}, "menu"),
        ({"kind": "act", "page": {}}, "act"),
        ({"kind": "act", "page": None}, "act"),
    ],
)
def test_the_first_rule_whose_conditions_hold_says_what_an_event_is(record: Any, event_type: str) -> None:
    found = fields_of(compiled(events=RULES), **record)
    assert found is not None
    assert found["event_type"] == event_type
    assert found.get("page_type") == ("page" if event_type == "page_view" else None)


def test_an_event_that_is_no_click_is_filtered() -> None:
    assert fields_of(compiled(events=RULES), kind="ping", at="broken") is None


TELLING = """
[[event]]
when = { kind = "beat" }
drop = true
dwell = true

[[event]]
type = "kind"
"""


def test_what_tells_a_dwell_has_no_event_type_and_only_what_that_takes() -> None:
    mapping = compiled('page_url = "page.url"\ndwell_ms = "read"\nelement = "kind"', TELLING)
    assert fields_of(mapping, kind="beat", read=50) == {
        "visitor_id": "v-1",
        "timestamp": NOON_MS,
        "page_url": RECORD["page"]["url"],
        "dwell_ms": 50,
    }
    value = json.dumps({**RECORD, "kind": "beat"}).encode()
    assert mapping.whose(value) == ("v-1", False)


@pytest.mark.parametrize(
    "record", [{"id": None}, {"id": ""}, {"id": "v" * 300}, {"at": "soon"}, {"at": 10**30}, {"id": "\ud83d"}]
)
def test_what_tells_a_dwell_and_cannot_be_read_is_filtered(record: dict[str, Any]) -> None:
    decoder = ClickDecoder(read=compiled(events=TELLING).read)
    value = json.dumps({**RECORD, "kind": "beat", **record}).encode()
    assert decoder.decode(value, NOON_MS, "f") is None


def test_without_consent_nothing_tells_a_dwell() -> None:
    mapping = compiled('consent = "ok"', TELLING)
    assert fields_of(mapping, kind="beat", ok=False) is None
    assert mapping.whose(json.dumps({**RECORD, "kind": "beat", "ok": False}).encode()) == ("", True)


@pytest.mark.parametrize("kind", ["other", None, ["view"], 1])
def test_an_event_that_no_rule_knows_is_a_dead_letter(kind: Any) -> None:
    assert refusal(compiled(events=RULES), kind=kind) == "validate unknown_event:event_type:mine"


@pytest.mark.parametrize("value", [True, 1, 1.0, "true", "1", None, "", [], {}])
def test_what_one_event_was_does_not_depend_on_those_before_it(value: Any) -> None:
    rules = """
[[event]]
when = { kind = true }
type = { constant = "flag" }
[[event]]
when = { kind = "1" }
type = { constant = "one" }
[[event]]
when = { kind = "" }
type = { constant = "nothing" }
[[event]]
type = { constant = "else" }
"""
    worn = compiled(events=rules)
    for each in (1, True, 1.0, "true", "1", None, "", [], {}):
        fields_of(worn, kind=each)
    assert fields_of(worn, kind=value) == fields_of(compiled(events=rules), kind=value)


# Consent and bots


@pytest.mark.parametrize("given", [False, 0, "false", "No", " denied ", "0", "N", "opted_out"])
def test_without_consent_a_record_is_filtered_whatever_else_is_wrong(given: Any) -> None:
    assert fields_of(compiled('consent = "ok"'), ok=given, at="broken", id=None) is None
    assert fields_of(compiled('consent = "ok"', RULES), ok=given, kind="unknown") is None


@pytest.mark.parametrize("given", [True, 1, "yes", "granted", None, "", ...])
def test_with_consent_or_without_a_word_of_it_a_click_is_a_click(given: Any) -> None:
    assert fields_of(compiled('consent = "ok"'), ok=given) is not None


def test_a_consent_that_cannot_be_read_is_a_dead_letter() -> None:
    assert refusal(compiled('consent = "ok"'), ok=["no"]) == "validate wrong_type:consent:mine"


@pytest.mark.parametrize(
    ("flag", "crawler"),
    [(True, True), ("true", True), (1, True), (False, False), (None, False), ("no", False)],
)
def test_whom_the_vendor_calls_a_bot_is_one(flag: Any, crawler: bool) -> None:
    mapping = compiled('bot = "flag"\nuser_agent = "agent"')
    value = json.dumps({**RECORD, "flag": flag, "agent": "Mozilla/5.0"}).encode()
    found = ClickDecoder(read=mapping.read).decode(value, None, "f")
    assert found is not None
    assert found.crawler is crawler


# Records


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"[]", "not_an_object"),
        (b"3", "not_an_object"),
        (b"{", "invalid_json"),
        (b"visitor", "invalid_json"),
        (b'{"id": "\xff"}', "invalid_utf8"),
        (b'{"id": "\\ud83d", "at": 1709812800000, "kind": "view"}', "invalid_json"),
    ],
)
def test_what_is_no_record_is_refused(value: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as refused:
        compiled().read(value)
    assert (refused.value.stage, refused.value.reason) == ("decode", f"{reason}:mine")


def test_half_a_character_outside_of_ids_costs_no_click() -> None:
    value = b'{"id": "v-1", "at": 1709812800000, "kind": "view", "title": "\\ud83d"}'
    found = compiled('page_title = "title"').read(value)
    assert found is not None
    assert found[CLICK_FIELDS.index("page_title")] == "\ufffd"


def test_tab_separated_values_are_read_by_the_names_of_their_columns() -> None:
    mapping = compiled('element = "extra.data[0].name"', top='columns = ["id", "at", "kind", "extra"]')
    found = mapping.read(b'v-1\t1709812800000\tview\t{"data": [{"name": "menu"}]}\r\n')
    assert found is not None
    assert (found[0], found[1], found[2]) == ("v-1", NOON_MS, "view")
    assert found[CLICK_FIELDS.index("element")] == "menu"
    as_json = {"id": "v-1", "at": NOON_MS, "kind": "view", "extra": {"data": [{"name": "menu"}]}}
    assert mapping.read(json.dumps(as_json).encode()) == found


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"v-1\t1709812800000\tview", "decode wrong_columns:mine"),
        (b"v-1\t1709812800000\tview\t\t", "decode wrong_columns:mine"),
        (b"v-1\t1709812800000\t\xff\t", "decode invalid_utf8:mine"),
        (b"\t1709812800000\tview\t", "validate missing_field:visitor_id:mine"),
    ],
)
def test_a_row_of_another_shape_is_refused(value: bytes, reason: str) -> None:
    mapping = compiled(top='columns = ["id", "at", "kind", "extra"]')
    with pytest.raises(Rejected) as refused:
        mapping.read(value)
    assert f"{refused.value.stage} {refused.value.reason}" == reason


def test_the_visitor_of_an_event_that_is_no_click_is_known_too() -> None:
    mapping = compiled(events=RULES)
    assert mapping.visitor_of(json.dumps({**RECORD, "kind": "ping"}).encode()) == "v-1"
    assert mapping.visitor_of(b'{"kind": "ping"}') is None
    assert mapping.visitor_of(b"{") is None


def test_a_trace_says_where_each_field_came_from() -> None:
    mapping = compiled('element = ["none", "page.url"]\nprice = "none"\nevent_id = "page"')
    traced = {each.field: each for each in mapping.trace(json.dumps(RECORD).encode()) or []}
    assert traced["element"].source == "page.url"
    assert traced["price"].source is None
    assert traced["price"].problem is None
    assert traced["event_id"].problem == "wrong_type"
    assert traced["timestamp"].result == NOON_MS


# Properties

keys = st.sampled_from(["a", "b", "$c", "d.e", "h[0]"])
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
records = st.dictionaries(keys, values, max_size=4)
paths = st.lists(keys, min_size=1, max_size=3).map(tuple)


@given(st.lists(paths, min_size=1, max_size=6), records)
def test_leaves_are_what_one_finds_by_walking_each_path(asked: list[tuple[str, ...]], record: Any) -> None:
    reader = LeafReader(asked)
    value = json.dumps(record).encode()
    leaves = reader.read(value)
    for path in asked:
        number, leaf, rest = reader.place(path)
        assert walk(leaves[number][leaf], rest) == walk(json.loads(value), path)


@given(values)
def test_any_record_is_a_click_filtered_or_refused_with_a_reason_that_quotes_nothing(value: Any) -> None:
    mapping = compiled('element = "page.a"\nuser_id = "page"', RULES)
    decoder = ClickDecoder(read=mapping.read)
    record = {**RECORD, "id": value, "kind": value, "page": value}
    try:
        found = decoder.decode(json.dumps(record).encode(), NOON_MS, "f")
    except Rejected as rejected:
        end = rejected.reason
    else:
        end = "filtered" if found is None else "click"
    assert re.fullmatch(r"filtered|click|\w+:\w+(:mine)?", end)


@given(st.datetimes(timezones=st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30))])))
def test_a_time_in_text_is_the_time_in_numbers(at: dt.datetime) -> None:
    mapping = compiled('timestamp = { from = "at", unit = "iso8601" }')
    found = fields_of(mapping, at=at.isoformat())
    assert found is not None
    assert found["timestamp"] == (at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


_QUERY = st.text(alphabet=st.sampled_from("q&=%+#?Cé3aA9 2E8"), max_size=20)


@given(_QUERY)
def test_a_parameter_is_what_a_library_finds(query: str) -> None:
    whole = f"https://bank.example/?{query}"
    found = parse_qs(query.partition("#")[0], errors="replace").get("q")
    expected = found[0] if found else None
    assert value_of("search_query", '{ from = "x", parameter = "q" }', x=whole) == expected


def test_what_stands_behind_the_first_64_leaves_is_found() -> None:
    places = [f"f{place}" for place in range(80)]
    mapping = compiled(f"element = {json.dumps(places)}")
    for name in ("f3", "f79", "f3"):
        found = fields_of(mapping, **{name: "menu"})
        assert found is not None
        assert found["element"] == "menu"


_SEVERAL = compiled(
    'user_id = ["a", "b.c"]\nelement = ["b.c", "a", "d"]\nevent_id = { from = "d", map = { x = "y" } }\n'
    'price = ["d", "b.e"]\nconsent = "b.d"\nbot = ["b.e", "a"]\nsent_at = { from = ["d", "a"], unit = "s" }'
)


_below = st.dictionaries(st.sampled_from("cde"), values)


@given(st.fixed_dictionaries({}, optional={"a": values, "b": _below, "d": values}))
def test_a_click_has_what_each_field_gives_by_itself(record: dict[str, Any]) -> None:
    """Whatever records were read before: the mapping is the same for all of them."""
    value = json.dumps({**RECORD, **record}).encode()
    traced = {each.field: each for each in _SEVERAL.trace(value) or []}
    consent, bot = traced.pop("consent"), traced.pop("bot")
    problems = [f"{each.problem}:{each.field}:mine" for each in (consent, *traced.values()) if each.problem]
    try:
        click = _SEVERAL.read(value)
    except Rejected as rejected:
        found, expected = rejected.reason, problems[0]
    else:
        found = None if click is None else dict(zip(CLICK_FIELDS, click, strict=True))
        expected = dict.fromkeys(CLICK_FIELDS) | {name: each.result for name, each in traced.items()}
        expected["user_agent"] = CALLED_A_BOT if bot.result else None
        expected = None if consent.result is False else problems or expected
    assert found == expected
