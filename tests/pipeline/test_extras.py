"""What `clicks.keep` names is kept of a click, scrubbed and bounded; nothing else of it is."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.pipeline.normalize import MAX_LABEL_BYTES
from streamer.pipeline.scrub import scrub
from streamer.schemas.click import Click
from streamer.schemas.extras import CAMPAIGN, PAGE_TITLE
from streamer.settings import ClickSettings
from streamer.sources import click_decoder, source_version
from tests.bad_clicks import ARRIVAL_MS, GOOD, avro, click

URL = "https://shop.example/shoes?utm_source=news+letter&utm_term=jo%40mail.example&x=1#utm_medium=no"
KEEP = (PAGE_TITLE, *CAMPAIGN, "properties.plan", "properties.size")


def click_of(value: bytes, *keep: str, **settings: Any) -> Click:
    arrived = click_decoder(ClickSettings(keep=keep, **settings)).decode(value, ARRIVAL_MS, "e")
    assert arrived is not None
    return arrived.click


def extras_of(more: dict[str, Any], *keep: str) -> dict[str, str] | None:
    value = json.dumps(GOOD | more, ensure_ascii=False).encode()
    return click_of(value, *keep).extras


@pytest.mark.parametrize("form", [click, avro])
def test_a_click_keeps_what_is_named_and_its_other_fields_stay_as_they_are(form: Any) -> None:
    value = form(page_title=" Red \n shoes", page_url=URL, properties={"plan": "Gold", "age": "44"})
    kept = click_of(value, *KEEP)
    assert kept.extras == {
        "page_title": "Red shoes",
        "properties.plan": "Gold",
        "utm_source": "news letter",
        "utm_term": ":email",
    }
    assert list(kept.extras) == sorted(kept.extras)
    assert replace(kept, extras=None) == click_of(value)


def test_a_click_that_has_nothing_of_it_keeps_nothing() -> None:
    assert extras_of({"page_url": "/a?utm_=1&utm_source=", "properties": {"plan": ""}}, *KEEP) is None


def test_a_campaign_is_a_property_before_it_is_in_the_address() -> None:
    of_both = {"page_url": URL, "properties": {"utm_source": "shop"}}
    assert extras_of(of_both, "utm_source") == {"utm_source": "shop"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (7, "7"),
        (7.0, "7"),
        (1_234_567, "1234567"),
        (12_345_678, ":account"),
        (12_345_678.0, ":account"),
        (4_111_111_111_111_111, None),
        (19.99, "19.99"),
        (1 / 3, "0.333333"),
        (-2.5e-9, "-2.5e-09"),
        (1e300, "1e+300"),
        (2**63 - 1, None),
        (True, "true"),
        (False, "false"),
        ("DE89 3704 0044 0532 0130 00", ":iban"),
        ("x" * 300, None),
        ("ä" * 40, "ä" * 32),
        (None, None),
        ({"a": 1}, None),
        ([1], None),
    ],
)
def test_a_property_is_a_text_a_number_or_a_flag_and_scrubbed(value: Any, kept: str | None) -> None:
    expected = None if kept is None else {"properties.size": kept}
    assert extras_of({"properties": {"size": value}}, "properties.size") == expected


def test_a_property_that_json_can_not_hold_costs_nothing_but_itself() -> None:
    value = click(properties={"size": 0, "plan": "Gold"}).replace(b'"size": 0', b'"size": 1e999')
    assert click_of(value, *KEEP).extras == {"properties.plan": "Gold"}


@given(
    st.one_of(st.text(max_size=300), st.floats(allow_nan=False, allow_infinity=False), st.integers()),
    st.text(max_size=300),
)
def test_what_is_kept_is_scrubbed_and_bounded_whatever_came(value: Any, title: str) -> None:
    for text in (extras_of({"page_title": title, "properties": {"size": value}}, *KEEP) or {}).values():
        assert 0 < len(text.encode()) <= MAX_LABEL_BYTES
        assert isinstance(value, float) or scrub(text) == text


def test_a_mapping_says_where_properties_and_campaigns_are(tmp_path: Path) -> None:
    file = tmp_path / "shop.toml"
    file.write_text(
        """
[fields]
visitor_id = "v"
timestamp = { from = "t", unit = "ms" }
page_url = "url"
page_title = "title"
utm_source = "from"
[fields.properties]
"*" = "attributes[name={name}].value"
plan = { from = "plan", map = { g = "Gold" } }
[[event]]
when = { kind = "view" }
type = { constant = "page_view" }
[[event]]
type = "kind"
fields = { properties = { plan = "other" } }
"""
    )
    record = {
        "v": "v1",
        "t": ARRIVAL_MS,
        "kind": "view",
        "url": URL,
        "title": "Shoes",
        "plan": "g",
        "other": "silver",
        "attributes": [{"name": "colour", "value": "red"}, {"name": "size", "value": 42}],
    }
    kept = click_of(json.dumps(record).encode(), *KEEP, source=str(file)).extras
    assert kept == {
        "page_title": "Shoes",
        "properties.plan": "Gold",
        "properties.size": "42",
        "utm_source": "news letter",
        "utm_term": ":email",
    }
    bought = json.dumps(record | {"kind": "buy", "from": "app"}).encode()
    of_another = click_of(bought, *KEEP, source=str(file)).extras
    assert of_another is not None
    assert (of_another["properties.plan"], of_another["utm_source"]) == ("silver", "app")


def test_a_replay_that_keeps_something_else_is_another_one() -> None:
    one, two = ClickSettings(keep=("utm_source", "page_title")), ClickSettings(keep=("page_title",))
    assert source_version(one) not in ("", source_version(two))
    assert source_version(one) == source_version(ClickSettings(keep=("page_title", "utm_source")))
    assert source_version(ClickSettings()) == ""


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (["price"], "page_title, utm_source, .* properties.NAME, not 'price'"),
        (["properties."], "not 'properties.'"),
        (["properties.a.b"], "not 'properties.a.b'"),
        ([f"properties.p{number}" for number in range(16)], "at most 15 names"),
    ],
)
def test_other_names_are_refused(keep: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        ClickSettings(keep=keep)


def test_the_docs_list_what_is_kept() -> None:
    text = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    section = text.partition("## What is kept of a click")[2].partition("\n## ")[0]
    listed = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    names = [name for cell in listed for name in cell.replace("`", "").replace(",", " ").split()]
    expected = [field.name for field in fields(Click)] + [PAGE_TITLE, *CAMPAIGN, "properties.NAME"]
    assert sorted(set(names) - {"clicks.keep", "may", "name"}) == sorted(expected)
