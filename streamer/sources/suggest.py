"""Drafts a mapping from a few records: by the names of their fields, their types and the range of values."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from streamer.errors import UsageError
from streamer.pipeline.mapping.spec import REQUIRED

MOST_RECORDS = 1000
MOST_DEPTH = 6

_NAMES: dict[str, tuple[str, ...]] = {
    "visitor_id": (
        "visitorid",
        "anonymousid",
        "userpseudoid",
        "domainuserid",
        "clientid",
        "cookieid",
        "deviceid",
        "distinctid",
        "browserid",
        "sessioncookie",
        "vid",
        "cid",
        "uid",
        "userid",
    ),
    "event_id": ("eventid", "messageid", "uuid", "insertid", "id"),
    "timestamp": (
        "timestamp",
        "eventtimestamp",
        "eventtime",
        "occurredat",
        "time",
        "ts",
        "date",
        "datetime",
        "createdat",
        "clienttime",
        "cdt",
        "derivedtstamp",
        "collectortstamp",
    ),
    "sent_at": ("sentat", "senttime", "dvcesenttstamp"),
    "event_type": ("eventtype", "eventname", "event", "action", "type", "kind", "name"),
    "user_id": ("customerid", "userid", "accountid", "memberid", "login"),
    "page_url": ("pageurl", "url", "currenturl", "pagelocation", "location", "href", "path", "pagepath"),
    "page_title": ("pagetitle", "title"),
    "page_type": ("pagetype", "template", "contentgroup"),
    "referrer": ("referrer", "pagereferrer", "referer", "urlref"),
    "search_query": ("searchquery", "searchterm", "query", "keyword", "terms"),
    "element": ("element", "elementid", "label", "linktext", "button", "eltext", "target"),
    "dwell_ms": ("dwellms", "dwell", "timespent", "duration", "timeonpage"),
    "product_id": ("productid", "sku", "itemid", "articleid"),
    "device": ("devicetype", "devicecategory", "device"),
    "category": ("category", "productcategory", "itemcategory"),
    "price": ("price", "amount", "revenue"),
    "user_agent": ("useragent", "rawuseragent", "ua"),
    "consent": ("consent", "analyticsstorage", "hasconsent"),
    "bot": ("isbot", "bot", "spiderorrobot"),
}
"""Names that a field goes by, without case, underscores and signs; the likeliest first."""
_WORDS: dict[str, tuple[str, ...]] = {
    "visitor_id": ("visitor", "device", "cookie", "browser", "client", "anonymous"),
    "event_id": ("guid", "uuid", "event", "message"),
    "timestamp": ("time", "epoch", "date", "stamp"),
    "event_type": ("event", "evt"),
    "user_id": ("customer", "crm", "member", "account", "user"),
    "page_url": ("url", "uri"),
    "page_title": ("title", "caption"),
    "referrer": ("referrer", "referer"),
    "search_query": ("query", "search"),
    "element": ("button", "control", "element"),
    "dwell_ms": ("dwell", "duration"),
    "product_id": ("sku", "product"),
    "category": ("category",),
    "price": ("price",),
    "consent": ("consent", "optin"),
}
"""Parts of less common names that give a field away."""
_OF_IDS = ("id", "key", "no", "number", "guid", "uuid", "hash", "cookie", "sku")
"""What the less common name of an id ends with."""
_LEAST_SHARE = 0.9
"""Of the records: in so many has to be what all should have, and so many event_ids have to differ."""
_MOST_EVENTS = 50
"""Kinds of events; more of them are no kinds."""
_BEATS = re.compile(
    r"(?<![A-Za-z])ping\b|Ping\b|(?i:heart_?beat|user_?engagement|page_?leave|still_?here|keep_?alive)"
)
"""Names of events that are no clicks and tell how long a page was read."""
_UNITS = (("s", 1e9), ("ms", 1e12), ("us", 1e15), ("ns", 1e18))
"""From which number on a time of this century has the unit."""
_PARAMETERS = '["q", "query", "search", "s"]'
_PLAIN_KEY = re.compile(r"[^\".\[\]\\\x00-\x1f]+")
_Values = dict[str, list[Any]]


def suggest(records: Iterable[bytes]) -> str:
    """A mapping file that has what was found, and a comment for what wasn't. Raises UsageError."""
    values = _values_by_path(records)
    taken: dict[str, str] = {}
    lines: list[str] = []
    for field in _NAMES:
        path = _likeliest(field, values, set(taken.values()))
        if path is not None:
            taken[field] = path
        if field == "event_type":
            continue
        lines.append(_line(field, path, values))
    if "page_url" in taken and "search_query" not in taken:
        lines.append(
            f"search_query = {{ from = {json.dumps(taken['page_url'])}, parameter = {_PARAMETERS} }}"
        )
    return "\n".join(["# A draft: check each line.", "[fields]", *lines, "", *_events(taken, values), ""])


def _line(field: str, path: str | None, values: _Values) -> str:
    if path is None:
        return f'# {field} = ""' + ("  # required, and nothing was found" if field in REQUIRED else "")
    line = f"{field} = {_source(field, path, values[path])}"
    return f"# {line}  # if timestamp is by the device's own clock" if field == "sent_at" else line


def _events(taken: dict[str, str], values: _Values) -> list[str]:
    path = taken.get("event_type")
    if path is None:
        return ["[[event]]", 'type = { constant = "page_view" }  # nothing was found that names the event']
    seen = sorted({str(value) for value in values[path]})[:20]
    lines = [f"# seen: {', '.join(map(json.dumps, seen))}"]
    beats = [name for name in seen if _BEATS.search(name)]
    if beats:
        lines += ["[[event]]", f"when = {{ {json.dumps(path)} = {json.dumps(beats)} }}"]
        lines += ["drop = true", "dwell = true  # they tell how long a page was read", ""]
    return [*lines, "[[event]]", f"type = {json.dumps(path)}"]


def _values_by_path(records: Iterable[bytes]) -> _Values:
    found: _Values = {}
    count = 0
    for record in records:
        if count == MOST_RECORDS:
            break
        try:
            parsed = msgspec.json.decode(record)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        if isinstance(parsed, dict):
            count += 1
            _collect(parsed, "", found, MOST_DEPTH)
    if not count:
        raise UsageError("no record is a JSON object; expected some to draft a mapping from, one a line")
    return found


def _collect(node: Any, path: str, found: _Values, depth: int) -> None:
    if isinstance(node, dict) and depth:
        for key, value in node.items():
            quoted = key if _PLAIN_KEY.fullmatch(key) else f'"{key}"'
            if key and not set(key) & set('"\\') and key.isprintable():
                _collect(value, f"{path}.{quoted}" if path else quoted, found, depth - 1)
    elif isinstance(node, list) and node and depth:
        _collect(node[0], f"{path}[0]", found, depth - 1)
    elif isinstance(node, str | int | float) and node != "":
        found.setdefault(path, []).append(node)


def _likeliest(field: str, values: _Values, taken: set[str]) -> str | None:
    """The path with the likeliest name whose values fit; of several the shallowest, then the commonest."""
    fits = _FITS.get(field, _is_text)
    candidates = []
    for path, found in values.items():
        name = re.sub(r"[^a-z0-9]", "", re.sub(r"\[\d+\]", "", path.lower()).rpartition(".")[2])
        whole = re.sub(r"[^a-z0-9]", "", path.lower())
        names = _NAMES[field]
        place = names.index(name) if name in names else names.index(whole) if whole in names else None
        if place is None:
            place = _place_by_part(field, name, found)
        if field == "event_id" and len(set(found)) < _LEAST_SHARE * len(found):
            continue  # that names what several events have in common
        if place is not None and path not in taken and all(fits(value) for value in found):
            candidates.append((place, path.count("."), -len(found), path))
    if field in (*REQUIRED, "event_type"):
        most = max((-each[2] for each in candidates), default=0)
        candidates = [each for each in candidates if -each[2] >= _LEAST_SHARE * most]
    return min(candidates)[3] if candidates else None


def _place_by_part(field: str, name: str, found: Sequence[Any]) -> int | None:
    """Behind all names that a field usually goes by; None if nothing gives the field away."""
    words = _WORDS.get(field, ())
    place = next((place for place, word in enumerate(words) if word in name), None)
    if place is None or (field.endswith("_id") and not name.endswith(_OF_IDS)):
        return None
    if field == "event_type" and (name.endswith(_OF_IDS) or len(set(found)) > _MOST_EVENTS):
        return None
    return len(_NAMES[field]) + place


def _source(field: str, path: str, values: Sequence[Any]) -> str:
    text = json.dumps(path, ensure_ascii=False)
    if field in ("timestamp", "sent_at"):
        return f'{{ from = {text}, unit = "{_unit(values)}" }}'
    if field == "dwell_ms" and "ms" not in path.lower():
        return f'{{ from = {text}, unit = "s" }}  # or "ms"'
    return text


def _unit(values: Sequence[Any]) -> str:
    first = values[0]
    if isinstance(first, str) and not _is_number(first):
        return "iso8601" if dt.datetime.fromisoformat(first).tzinfo else "iso8601_utc"
    number = max(float(value) for value in values)
    return [unit for unit, least in _UNITS if number >= least][-1]


def _is_time(value: Any) -> bool:
    if _is_number(value):
        return float(value) >= _UNITS[0][1]
    try:
        dt.datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return True


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) or re.fullmatch(r"\d{1,20}(\.\d+)?", value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


_FITS: dict[str, Callable[[Any], bool]] = {
    "timestamp": _is_time,
    "sent_at": _is_time,
    "price": _is_number,
    "dwell_ms": _is_number,
    "consent": lambda _: True,
    "bot": lambda _: True,
    **dict.fromkeys(("visitor_id", "event_id", "user_id", "product_id"), _is_id),
}
"""Whether a value may be that of a field; text by default."""
