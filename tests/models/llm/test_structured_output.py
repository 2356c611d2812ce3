from __future__ import annotations

import msgspec
import pytest

from streamer.models.llm.errors import UnreadableError, UnusableError
from streamer.models.llm.structured_output import AnswerSchema, instruction


class Fruit(msgspec.Struct, frozen=True):
    name: str
    seeds: list[int]


def not_a_stone(found: Fruit) -> str | None:
    return "a stone is no fruit" if found.name == "stone" else None


SCHEMA = AnswerSchema("fruit", Fruit, not_a_stone)
GOOD = '{"name": "fig", "seeds": [1, 2]}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"Here you are:\n```json\n{GOOD}\n```\nAnything else?",
        f'{{"thoughts": "hm"}} {GOOD}',
        f"{{not json}} {GOOD}",
        '{"name": "fig", "seeds": [1, 2], "color": "green"}',
        f'<think>Is it {{"name": "pear", "seeds": [3]}}? No.</think>\n{GOOD}',
        f'the template ate the opening mark: {{"name": "pear", "seeds": []}}</think>{GOOD}',
    ],
)
def test_an_answer_is_found_in_whatever_surrounds_it(text: str) -> None:
    assert SCHEMA.read(text) == Fruit("fig", [1, 2])


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("I can't do that.", "no JSON object"),
        ('{"name": "fig", "seeds": [1, 2', "no JSON object"),
        ('{"name": "fig"}', "missing required field `seeds`"),
        ('{"name": "fig", "seeds": ["many"]}', "Expected `int`"),
        ('[{"name": 1}]', "Expected `str`"),
        ('{"name": "stone", "seeds": []}', "a stone is no fruit"),
        ('{"a":' * 5000, "no JSON object"),
        ('<think>Perhaps {"name": "pear", "seeds": []}, but', "empty"),
    ],
)
def test_what_is_not_of_the_form_says_why(text: str, why: str) -> None:
    with pytest.raises(UnusableError, match=why):
        SCHEMA.read(text)


def test_what_has_the_form_and_is_wrong_is_told_from_what_has_not_the_form() -> None:
    with pytest.raises(UnusableError) as wrong:
        SCHEMA.read('{"name": "stone", "seeds": []} or {"fruit": 1}')
    assert not isinstance(wrong.value, UnreadableError)
    for text in ("", "no", '{"name": "fig"}'):
        with pytest.raises(UnreadableError):
            SCHEMA.read(text)


def test_values_that_are_listed_close_the_schema_and_not_the_prompt() -> None:
    from streamer.models.llm.drafting import DraftParent, Grouping

    schema = AnswerSchema("grouping", Grouping, allowed={(DraftParent, "intents"): ["a", "b", "a"]})
    intents = schema.json_schema()["$defs"]["DraftParent"]["properties"]["intents"]
    assert intents == {"type": "array", "items": {"enum": ["a", "b"]}}
    assert "enum" not in instruction(schema)
    fruit = AnswerSchema("fruit", Fruit, allowed={(Fruit, "name"): ["fig"]})
    assert fruit.json_schema()["properties"]["name"] == {"enum": ["fig"]}


def test_the_schema_is_closed_and_all_of_it_is_required_as_strict_modes_want() -> None:
    from streamer.models.llm.assigning import Assignment

    schema = AnswerSchema("labels", Assignment).json_schema()
    assert schema["required"] == ["sessions"]
    assert schema["additionalProperties"] is False
    assert all(
        each["additionalProperties"] is False and set(each["required"]) == set(each["properties"])
        for each in schema["$defs"].values()
    )
