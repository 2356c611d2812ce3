"""Clicks of every profile beside the same clicks of our own shape: CPU of decoding, and bytes of a record.

The records have what the vendors' documents show a page view to have, so most are several times as long.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from benchmarks.clicks import clicks
from benchmarks.pairs import Spread, ratios, spread
from streamer.pipeline.mapping.spec import read_mapping
from streamer.settings import NATIVE, ClickSettings
from streamer.sources import click_decoder, text_of

DECODED = 10_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"


@dataclass(frozen=True)
class SourceCost:
    """Microseconds of CPU a click; `ratio` to our own shape in the same round."""

    us: Spread
    ratio: Spread
    bytes: int
    """Of a record, on average."""


def measure(rounds: int) -> dict[str, SourceCost]:
    """In turn with our own shape."""
    own = [value for _, value in islice(clicks(DECODED), DECODED)]
    found = {}
    for name, form in FORMS.items():
        records = [form(orjson.loads(value)) for value in own]
        pairs = [
            (_decode_us(NATIVE, own), _decode_us(name.partition(" ")[0], records)) for _ in range(rounds)
        ]
        size = sum(map(len, records)) // len(records)
        found[name] = SourceCost(spread(us for _, us in pairs), ratios(pairs), size)
    return found


def _decode_us(source: str, records: Sequence[bytes]) -> float:
    decode = click_decoder(ClickSettings(source=source)).decode
    began = time.process_time()
    for record in records:
        decode(record, None, "id")
    return (time.process_time() - began) / len(records) * 1e6


def _time(click: Mapping[str, Any], form: str = "%Y-%m-%dT%H:%M:%S.%fZ") -> str:
    return dt.datetime.fromtimestamp(click["timestamp"] / 1000, dt.UTC).strftime(form)


def _native(click: Mapping[str, Any]) -> bytes:
    return orjson.dumps(click)


def _segment(click: Mapping[str, Any]) -> bytes:
    page = {
        "path": click["page_url"][24:],
        "referrer": "https://www.google.com/",
        "search": "",
        "title": click["page_type"],
        "url": click["page_url"],
    }
    at = _time(click)
    return orjson.dumps(
        {
            "anonymousId": click["visitor_id"],
            "channel": "browser",
            "context": {"ip": "8.8.8.8", "userAgent": AGENT, "page": page, "locale": "en-US"},
            "integrations": {"All": True},
            "messageId": click["event_id"],
            "name": click["page_type"],
            "properties": {**page, "query": click["search_query"]},
            "receivedAt": at,
            "sentAt": at,
            "originalTimestamp": at,
            "timestamp": at,
            "type": "page",
            "userId": None,
            "version": "1.1",
        }
    )


_COLUMNS = read_mapping(text_of("snowplow"), "snowplow").columns


def _snowplow_fields(click: Mapping[str, Any]) -> dict[str, str]:
    at = _time(click, "%Y-%m-%d %H:%M:%S.%f")[:-3]
    return {
        "app_id": "shop",
        "platform": "web",
        "etl_tstamp": at,
        "collector_tstamp": at,
        "dvce_created_tstamp": at,
        "event": "page_view",
        "event_id": click["event_id"],
        "v_tracker": "js-3.24.0",
        "v_collector": "ssc-2.9.0-kafka",
        "v_etl": "snowplow-enrich-kafka-3.9.0",
        "domain_userid": click["visitor_id"],
        "page_url": click["page_url"],
        "page_title": click["page_type"],
        "page_referrer": "https://www.google.com/",
        "useragent": AGENT,
        "dvce_type": "Computer",
        "derived_tstamp": at,
        "event_name": "page_view",
    }


def _snowplow_tsv(click: Mapping[str, Any]) -> bytes:
    fields = _snowplow_fields(click)
    return "\t".join(fields.get(name, "") for name in _COLUMNS).encode()


def _snowplow_json(click: Mapping[str, Any]) -> bytes:
    return orjson.dumps(_snowplow_fields(click))


def _posthog(click: Mapping[str, Any]) -> bytes:
    properties = {
        "$device_id": click["visitor_id"],
        "distinct_id": click["visitor_id"],
        "$current_url": click["page_url"],
        "$referrer": "https://www.google.com/",
        "$device_type": "Desktop",
        "$raw_user_agent": AGENT,
        "$browser": "Chrome",
        "$os": "Linux",
        "title": click["page_type"],
    }
    return orjson.dumps(
        {
            "uuid": click["event_id"],
            "event": "$pageview",
            "distinct_id": click["visitor_id"],
            "timestamp": _time(click),
            "properties": properties,
        }
    )


def _ga4(click: Mapping[str, Any]) -> bytes:
    parameters = {
        "page_location": click["page_url"],
        "page_title": click["page_type"],
        "page_referrer": "https://www.google.com/",
    }
    return orjson.dumps(
        {
            "event_date": _time(click, "%Y%m%d"),
            "event_timestamp": str(click["timestamp"] * 1000),
            "event_name": "page_view",
            "event_params": [
                {"key": key, "value": {"string_value": value}} for key, value in parameters.items()
            ],
            "privacy_info": {"analytics_storage": "Yes"},
            "user_pseudo_id": click["visitor_id"],
            "device": {"category": "desktop", "operating_system": "Linux"},
        }
    )


def _matomo(click: Mapping[str, Any]) -> bytes:
    return orjson.dumps(
        {
            "idsite": "1",
            "rec": "1",
            "action_name": click["page_type"],
            "url": click["page_url"],
            "_id": click["visitor_id"],
            "urlref": "https://www.google.com/",
            "ua": AGENT,
            "cdt": str(click["timestamp"] // 1000),
        }
    )


def _cloudevent(click: Mapping[str, Any]) -> bytes:
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": click["event_id"],
            "source": "/shop",
            "type": "page_view",
            "time": _time(click),
            "datacontenttype": "application/json",
            "data": dict(click),
        }
    )


FORMS: dict[str, Callable[[Mapping[str, Any]], bytes]] = {
    NATIVE: _native,
    "cloudevents": _cloudevent,
    "ga4": _ga4,
    "matomo": _matomo,
    "posthog": _posthog,
    "segment": _segment,
    "snowplow (TSV)": _snowplow_tsv,
    "snowplow (JSON)": _snowplow_json,
}
"""By source, and what of it."""
