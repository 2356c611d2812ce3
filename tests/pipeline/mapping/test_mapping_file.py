"""What a mapping file may say, and what the refusal of a wrong one names."""

from __future__ import annotations

import pytest

from streamer.pipeline.mapping.path import BadPathError, Having, Step, parse_path, walk
from streamer.pipeline.mapping.spec import MappingError, read_mapping

WHOLE = """
[fields]
visitor_id = "visitor"
timestamp = { from = "at", unit = "ms" }

[[event]]
type = "kind"
"""


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("a", ("a",)),
        ("context.page.url", ("context", "page", "url")),
        ("items[0].id", ("items", 0, "id")),
        ("items[1][2]", ("items", 1, 2)),
        ("params[key=page location].value", ("params", Having("key", "page location"), "value")),
        ('"a.b"."c[0]"', ("a.b", "c[0]")),
        ("properties.$current_url", ("properties", "$current_url")),
    ],
)
def test_a_path_has_keys_places_and_conditions(text: str, steps: tuple[Step, ...]) -> None:
    assert parse_path(text) == steps


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a[=x]", "[0]", "a]", '"a', '"a"b', "a\\b", "a\n"],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(BadPathError):
        parse_path(text)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.b", 1),
        ("a.c", None),
        ("a.b.c", None),
        ("list[1]", 3),
        ("list[5]", None),
        ("list.a", None),
        ("params[key=q].value", "loans"),
        ("params[key=none].value", None),
        ("text.deep[0]", 7),
        ("broken.deep", None),
        ("a[0]", None),
    ],
)
def test_a_path_leads_to_a_value_or_to_nothing(path: str, found: object) -> None:
    record = {
        "a": {"b": 1},
        "list": [2, 3],
        "params": ["no", {"value": 1}, {"key": "q", "value": "loans"}, {"key": "q", "value": "second"}],
        "text": '{"deep": [7]}',
        "broken": "{",
    }
    assert walk(record, parse_path(path)) == found


def test_the_smallest_mapping_is_taken() -> None:
    assert read_mapping(WHOLE, "mine").name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[fields]", "[fields", "is no TOML"),
        ("[fields]", 'name = "Mine!"\n[fields]', "name: is 'Mine!'; expected 1 to 32 of a-z"),
        ("[fields]", "colour = 1\n[fields]", "colour: unknown key; expected one of columns"),
        ("[fields]", 'columns = ["a", "a"]\n[fields]', "columns: is 'a'; expected each name once"),
        ("[fields]", "columns = 3\n[fields]", "columns: is 3; expected a name or a list of names"),
        ('visitor_id = "visitor"', "", "fields.visitor_id: is missing; expected a path"),
        ('visitor_id = "visitor"', "visitor_id = 3", "fields.visitor_id: is 3; expected a path"),
        ('visitor_id = "visitor"', "visitor_id = []", "fields.visitor_id: is []; expected a path"),
        (
            'visitor_id = "visitor"',
            'visitor_id = "a..b"',
            "fields.visitor_id.from: is 'a..b'; expected a path, as",
        ),
        (
            'visitor_id = "visitor"',
            'visitors = "a"',
            "fields.visitors: unknown key; expected one of bot, category",
        ),
        ('"visitor"', '{ from = "a", unit = "s" }', "fields.visitor_id.unit: is 's'; expected no unit"),
        ('"visitor"', '{ from = "a", constant = "b" }', "expected one of from and constant"),
        ('"visitor"', "{ constant = 3 }", "fields.visitor_id.constant: is 3; expected a text"),
        (
            '"visitor"',
            '{ from = "a", otherwise = "b" }',
            "fields.visitor_id.otherwise: is 'b'; expected it beside map",
        ),
        ('"visitor"', '{ from = "a", map = 3 }', "fields.visitor_id.map: is 3; expected a table"),
        (
            '"visitor"',
            '{ from = "a", map = { x = [] } }',
            "fields.visitor_id.map.x: is []; expected a text, a number",
        ),
        (
            '"visitor"',
            '{ from = "a", form = "b" }',
            "fields.visitor_id.form: unknown key; expected one of constant",
        ),
        (
            'unit = "ms"',
            'unit = "sec"',
            "fields.timestamp.unit: is 'sec'; expected one of s, ms, us, ns, iso8601",
        ),
        (', unit = "ms"', "", "fields.timestamp.unit: is missing; expected one of s, ms, us"),
        (
            'unit = "ms"',
            'unit = "ms", default = 0',
            "fields.timestamp.default: is 0; expected a path, for no two",
        ),
        ("[[event]]", "[event]", "event: is {'type': 'kind'}; expected at least one [[event]]"),
        ('type = "kind"', "", "event[0]: is {}; expected either type, for clicks, or drop = true"),
        ('type = "kind"', 'type = "kind"\ndrop = true', "expected either type, for clicks, or drop = true"),
        ('type = "kind"', "drop = 1", "event[0].drop: is 1; expected true or false"),
        ('type = "kind"', 'drop = true\ndwell = "s"', "event[0].dwell: is 's'; expected true or false"),
        ('type = "kind"', 'type = "kind"\ndwell = true', "event[0].dwell: is True; expected it beside drop"),
        ('type = "kind"', 'type = "kind"\nwhen = { "a[" = "b" }', "event[0].when: is 'a['; expected a path"),
        ('type = "kind"', 'type = "kind"\nwhen = { a = [] }', "event[0].when.a: is []; expected a value"),
        (
            'type = "kind"',
            'type = "kind"\nfields = { price = { constant = true } }',
            "event[0].fields.price.constant: is True",
        ),
        (
            'type = "kind"',
            'type = "kind"\nfields = { consent = { constant = "no" } }',
            "expected true or false",
        ),
    ],
)
def test_a_wrong_file_is_refused_by_key_value_and_expectation(old: str, new: str, said: str) -> None:
    assert WHOLE.count(old) == 1
    with pytest.raises(MappingError) as refused:
        read_mapping(WHOLE.replace(old, new), "mine")
    assert said in str(refused.value)
