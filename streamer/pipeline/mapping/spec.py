"""A mapping file (TOML), read and checked: what becomes of a record, field by field.

An error names the key, the value and what was expected. docs/sources.md describes the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from streamer.pipeline.mapping.path import BadPathError, Having, Step, parse_path
from streamer.schemas.extras import CAMPAIGN, PROPERTY, is_extra

Unit = Literal["s", "ms", "us", "ns", "iso8601", "iso8601_utc"]
Scalar = str | int | float | bool

REQUIRED = ("visitor_id", "timestamp")
TEXTS = (
    "visitor_id",
    "event_id",
    "page_type",
    "page_url",
    "page_title",
    "search_query",
    "element",
    "referrer",
    "product_id",
    "category",
    "device",
    "user_agent",
    "user_id",
)
TIMES = ("timestamp", "sent_at")
FLAGS = ("consent", "bot")
FIELDS = (*TEXTS, *TIMES, *FLAGS, "dwell_ms", "price")
"""What a file may map, beside the type of the event. `bot`: whether the vendor calls the visitor one."""

ANY = "*"
"""As a condition: the value is there. An empty text: it isn't. Among properties: any that has no line."""
PROPERTIES = "properties"
_PROPERTY_NAME = "{name}"
"""Stands for the property's name in the paths of any."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_TOP = {"name", "columns", "fields", "event"}
_SOURCE = {"from", "constant", "default", "unit", "map", "otherwise", "parameter"}
_EVENT = {"when", "type", "drop", "dwell", "fields"}
_UNITS = get_args(Unit)
_DURATIONS = ("s", "ms", "us", "ns")


class MappingError(ValueError):
    """The file is no mapping; the text says which key is wrong, how, and what was expected."""


@dataclass(frozen=True)
class Source:
    """One place that a field may come from, and how what stands there is read."""

    path: tuple[Step, ...] | None
    """None: a constant."""
    text: str
    """The path as it was written, or the constant."""
    constant: Scalar | None = None
    unit: Unit | None = None
    values: Mapping[str, Scalar] | None = None
    """What becomes of a value; of one that isn't here, `otherwise`."""
    otherwise: Scalar | None = None
    """None: it stays as it is."""
    parameters: tuple[str, ...] = ()
    """Of a URL: the parameters that are looked for, the first that has a value counts."""


Sources = tuple[Source, ...]
"""The first that has a value which can be read counts."""


@dataclass(frozen=True)
class Condition:
    path: tuple[Step, ...]
    text: str
    values: frozenset[str]


@dataclass(frozen=True)
class EventRule:
    """What becomes of the events that meet all conditions."""

    when: tuple[Condition, ...]
    type: Sources
    """Empty: such events are filtered."""
    fields: Mapping[str, Sources]
    extras: Mapping[str, Sources]
    """By their names, as `schemas.extras` has them; under `properties.*` those of any other property."""
    tells_dwell: bool = False
    """Whether events that are filtered tell how long the page of an earlier click was read."""


@dataclass(frozen=True)
class MappingSpec:
    """What a mapping file says. Of the rules the first whose conditions hold counts."""

    name: str
    columns: tuple[str, ...]
    """Of a record that is no JSON: tab-separated values. Empty: records are JSON."""
    events: tuple[EventRule, ...]


def read_mapping(text: str, name: str) -> MappingSpec:
    """The mapping that a file's text holds; `name` names it unless the file does. Raises MappingError."""
    try:
        file = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MappingError(f"is no TOML: {error}") from None
    _known(file, _TOP, "")
    name = _text(file.get("name", name), "name")
    if not _NAME.fullmatch(name):
        raise _bad("name", name, "1 to 32 of a-z, 0-9, hyphen and underscore, as dead letters name it")
    columns = _columns(file.get("columns", []))
    base = _fields(_table(file.get("fields", {}), "fields"), "fields")
    for field in REQUIRED:
        if field not in base[0]:
            raise MappingError(f"fields.{field}: is missing; expected a path, for no click can be without")
    rules = file.get("event")
    if not isinstance(rules, list) or not rules:
        raise _bad("event", rules, "at least one [[event]], that says which events are clicks")
    events = tuple(_event(rule, f"event[{place}]", base) for place, rule in enumerate(rules))
    return MappingSpec(name, columns, events)


def with_visitor(spec: MappingSpec, path: str) -> MappingSpec:
    """The mapping with another field as the visitor. Raises MappingError."""
    visitor = (Source(_path(path, "visitor_from"), path),)
    rules = [replace(rule, fields={**rule.fields, "visitor_id": visitor}) for rule in spec.events]
    return replace(spec, events=tuple(rules))


def extra_sources(rule: EventRule, name: str) -> Sources:
    """Where an extra comes from; empty if the mapping doesn't say."""
    own = rule.extras.get(name)
    if own is not None or not name.startswith(PROPERTY):
        return own or ()
    called = name.removeprefix(PROPERTY)
    return tuple(_of_property(source, called) for source in rule.extras.get(PROPERTY + ANY, ()))


def _of_property(source: Source, called: str) -> Source:
    if source.path is None:
        return source
    path = tuple(
        Having(step.key, step.value.replace(_PROPERTY_NAME, called))
        if isinstance(step, Having)
        else step.replace(_PROPERTY_NAME, called)
        if isinstance(step, str)
        else step
        for step in source.path
    )
    return replace(source, path=path, text=source.text.replace(_PROPERTY_NAME, called))


def _event(value: Any, key: str, base: tuple[dict[str, Sources], dict[str, Sources]]) -> EventRule:
    rule = _table(value, key)
    _known(rule, _EVENT, f"{key}.")
    when = tuple(
        Condition(_path(path, f"{key}.when"), path, _wanted(wanted, f"{key}.when.{path}"))
        for path, wanted in _table(rule.get("when", {}), f"{key}.when").items()
    )
    drop, tells_dwell = _flag(rule, "drop", key), _flag(rule, "dwell", key)
    if drop == ("type" in rule):
        raise _bad(key, rule, "either type, for clicks, or drop = true, for what is to be filtered")
    if tells_dwell and not drop:
        raise _bad(f"{key}.dwell", True, "it beside drop = true, for a click has dwell_ms")
    fields, extras = _fields(_table(rule.get("fields", {}), f"{key}.fields"), f"{key}.fields")
    kind = () if drop else _sources(rule["type"], "event_type", f"{key}.type")
    return EventRule(when, kind, {**base[0], **fields}, {**base[1], **extras}, tells_dwell)


def _flag(rule: Mapping[str, Any], name: str, key: str) -> bool:
    value = rule.get(name, False)
    if not isinstance(value, bool):
        raise _bad(f"{key}.{name}", value, "true or false")
    return value


def _fields(table: Mapping[str, Any], key: str) -> tuple[dict[str, Sources], dict[str, Sources]]:
    """Those of a click, and its extras."""
    _known(table, {*FIELDS, *CAMPAIGN, PROPERTIES}, f"{key}.")
    fields = {field: _sources(table[field], field, f"{key}.{field}") for field in table if field in FIELDS}
    extras = {name: _sources(table[name], name, f"{key}.{name}") for name in table if name in CAMPAIGN}
    for called, value in _table(table.get(PROPERTIES, {}), f"{key}.{PROPERTIES}").items():
        name = PROPERTY + called
        if called != ANY and not is_extra(name):
            raise _bad(f"{key}.{PROPERTIES}", called, f'"{ANY}", or 1 to 48 letters, digits, _, $ and -')
        extras[name] = _sources(value, name, f"{key}.{name}")
    return fields, extras


def _sources(value: Any, field: str, key: str) -> Sources:
    several = value if isinstance(value, list) else [value]
    if not several:
        raise _bad(key, value, "a path, a table with from or constant, or a list of these")
    found: list[Source] = []
    for each in several:
        found += _source(each, field, key)
    return tuple(found)


def _source(value: Any, field: str, key: str) -> list[Source]:
    if isinstance(value, str):
        value = {"from": value}
    if not isinstance(value, dict):
        raise _bad(key, value, "a path, a table with from or constant, or a list of these")
    _known(value, _SOURCE, f"{key}.")
    if ("from" in value) == ("constant" in value):
        raise _bad(key, value, "one of from and constant")
    if "constant" in value:
        if len(value) > 1:
            raise _bad(key, value, "constant alone")
        return [_constant(value["constant"], field, f"{key}.constant")]
    paths = value["from"] if isinstance(value["from"], list) else [value["from"]]
    unit = _unit(value.get("unit"), field, f"{key}.unit")
    values = {
        name: _scalar(made, f"{key}.map.{name}")
        for name, made in _table(value.get("map", {}), f"{key}.map").items()
    }
    otherwise = _scalar(value["otherwise"], f"{key}.otherwise") if "otherwise" in value else None
    if otherwise is not None and not values:
        raise _bad(f"{key}.otherwise", otherwise, "it beside map, for what is not in there")
    parameters = _names(value.get("parameter", []), f"{key}.parameter")
    sources = [
        Source(_path(path, f"{key}.from"), path, None, unit, values or None, otherwise, parameters)
        for path in paths
    ]
    if "default" in value:
        sources.append(_constant(value["default"], field, f"{key}.default"))
    return sources


def _constant(value: Any, field: str, key: str) -> Source:
    if field in TIMES:
        raise _bad(key, value, "a path, for no two clicks are at one time")
    scalar = _scalar(value, key)
    if field in (*TEXTS, "event_type") and not isinstance(scalar, str):
        raise _bad(key, value, "a text")
    if field in FLAGS and not isinstance(scalar, bool):
        raise _bad(key, value, "true or false")
    if field in ("dwell_ms", "price") and (isinstance(scalar, bool) or not isinstance(scalar, int | float)):
        raise _bad(key, value, "a number")
    return Source(None, repr(value), scalar)


def _unit(value: Any, field: str, key: str) -> Unit | None:
    allowed = _UNITS if field in TIMES else _DURATIONS if field == "dwell_ms" else ()
    if value is None:
        if field in TIMES:
            raise MappingError(f"{key}: is missing; expected one of {', '.join(allowed)}")
        return "ms" if allowed else None
    if not allowed:
        raise _bad(key, value, "no unit, which only timestamp, sent_at and dwell_ms have")
    if value not in allowed:
        raise _bad(key, value, f"one of {', '.join(allowed)}")
    unit: Unit = value
    return unit


def _wanted(value: Any, key: str) -> frozenset[str]:
    several = value if isinstance(value, list) else [value]
    if not several:
        raise _bad(key, value, f'a value, a list of values, "{ANY}" for any or "" for none')
    return frozenset(as_text(_scalar(each, key)) for each in several)


def as_text(value: Any) -> str:
    """A value as conditions and maps know it: as JSON writes it; "" for what is not there."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else ANY


def _path(text: Any, key: str) -> tuple[Step, ...]:
    try:
        return parse_path(_text(text, key))
    except BadPathError:
        raise _bad(key, text, "a path, as context.page.url, items[0].id or params[key=page].value") from None


def _columns(value: Any) -> tuple[str, ...]:
    columns = _names(value, "columns")
    twice = [name for name in columns if columns.count(name) > 1]
    if twice:
        raise _bad("columns", twice[0], "each name once")
    return columns


def _names(value: Any, key: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise _bad(key, value, "a name or a list of names")
    return tuple(names)


def _table(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(key, value, "a table")
    return value


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise _bad(key, value, "a text")
    return value


def _scalar(value: Any, key: str) -> Scalar:
    if not isinstance(value, str | int | float):
        raise _bad(key, value, "a text, a number, true or false")
    return value


def _known(table: Mapping[str, Any], known: set[str], prefix: str) -> None:
    for key in table:
        if key not in known:
            raise MappingError(f"{prefix}{key}: unknown key; expected one of {', '.join(sorted(known))}")


def _bad(key: str, value: Any, expected: str) -> MappingError:
    return MappingError(f"{key}: is {value!r}; expected {expected}")
