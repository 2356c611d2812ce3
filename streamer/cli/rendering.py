"""Records of the product's topics as JSON objects and as lines for people.

Of late clicks and dead letters the payload is left out unless asked for: it is the original bytes, and
may hold what a customer typed. Text from a topic never reaches a terminal with control characters.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from streamer.cli.output import visible
from streamer.kafka.start import as_time
from streamer.schemas.codec import CodecError, decode

Json = dict[str, Any]

_OUR_HEADERS = ("__streams.errors.", "x-streamer-")
"""Written by the worker; any other header came with the click, and is shown only when asked for."""


def as_json(record: Any, decoded: bool, raw: bool) -> Json:
    """`record`: aiokafka's ConsumerRecord; `decoded`: an output in Avro, otherwise original bytes."""
    where: Json = {
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": None if record.key is None else record.key.decode(errors="replace"),
    }
    if decoded:
        return where | _decoded(record.value)
    headers = {
        name: None if value is None else value.decode(errors="replace")
        for name, value in record.headers
        if raw or name.startswith(_OUR_HEADERS)
    }
    size = None if record.value is None else len(record.value)
    return where | {"headers": headers, "bytes": size} | (as_payload(record.value) if raw else {})


def _decoded(value: bytes | None) -> Json:
    if value is None:
        return {"value": None}  # a tombstone: the visitor was erased
    try:
        return {"value": decode(value)[1]}
    except CodecError as error:
        return {"value": None, "error": str(error)}


def as_payload(value: bytes | None) -> Json:
    """Bytes as text, or in base64 where they are none."""
    if value is None:
        return {"payload": None}
    try:
        return {"payload": value.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(value).decode()}


def as_line(item: Json) -> str:
    """One line for people of what `as_json` made."""
    return f"{as_time(item['timestamp'])}  {visible(str(item['key']))}  {_contents(item)}"


def _contents(item: Json) -> str:
    if "headers" in item:
        return _headers_line(item)
    if "error" in item:
        return f"can't be decoded: {visible(item['error'])}"
    if item["value"] is None:
        return "erased"
    value: Json = item["value"]
    if "action" in value:
        return _link(value)
    if "id_hash" in value:
        return _lookup(value)
    parts = [describe(value) for field, describe in _DESCRIBE.items() if value.get(field) is not None]
    return ", ".join([*parts, f"{as_clicks(value['event_count'])}, closed by {value['close_reason']}"])


def _link(value: Json) -> str:
    told = f"{visible(value['action'])} {visible(value['user_id'])}"
    return told if value["source"] is None else f"{told}, by {visible(value['source'])}"


def _lookup(value: Json) -> str:
    told = f"{visible(value['view'])}: {visible(value['outcome'])}"
    if value["closed_at"] is None:
        return told
    return f"{told}, closed at {as_time(value['closed_at'])}  [{visible(value['model_version'])}]"


def _intent(value: Json) -> str:
    if value["abstained"]:
        return f"no intent ({value['abstain_reason']})"
    best = value["intents"][0]
    return f"{visible(best['label'])} {best['probability']:.2f}{_reasons(value.get('reasons'))}"


def _reasons(reasons: list[Json] | None) -> str:
    told = [
        "  ".join([f"{each['contribution']:+.2f}", f"click {each['click']}", *_kinds(each)])
        for each in reasons or ()
    ]
    return f" ({'; '.join(told)})" if told else ""


def _kinds(reason: Json) -> list[str]:
    return [visible(each) for each in (reason["event_type"], reason["page_type"]) if each]


def _embedding(value: Json) -> str:
    return f"embedding of {len(value['embedding'])} in space {value['embedding_space']}"


_DESCRIBE: dict[str, Callable[[Json], str]] = {"intents": _intent, "embedding": _embedding}


def _headers_line(item: Json) -> str:
    parts = [f"{visible(name)}={visible(str(value))}" for name, value in item["headers"].items()]
    if "payload" in item or "payload_base64" in item:
        parts.append(visible(str(item.get("payload", item.get("payload_base64")))))
    return "  ".join([f"{item['bytes']} bytes", *parts])


def as_clicks(count: int) -> str:
    return f"{count} {'click' if count == 1 else 'clicks'}"
