"""The demo's sample clicks as events in Segment's shape, one a line: `python as_segment.py > events.jsonl`.

For the tutorial, in place of the events of a site of your own. Visitors who don't agree to be analysed are
left out, as a consent manager does before anything is sent.
"""

from __future__ import annotations

import datetime as dt
import gzip
from typing import Any

import orjson

from streamer import sample

TRACKED = {
    "click": "Product Clicked",
    "search": "Products Searched",
    "form_start": "Form Started",
    "form_submit": "Form Submitted",
    "login": "Signed In",
}
PROPERTIES = {"search_query": "query", "element": "label", "product_id": "product_id"}


def event_of(click: dict[str, Any]) -> dict[str, Any]:
    """A page call, or a track call with one of Segment's names."""
    at = dt.datetime.fromtimestamp(click["timestamp"] / 1000, dt.UTC).isoformat(timespec="milliseconds")
    page = {
        "url": click["page_url"],
        "title": click["page_title"],
        "referrer": click.get("referrer", ""),
    }
    properties = {name: click[field] for field, name in PROPERTIES.items() if field in click}
    event = {
        "anonymousId": click["visitor_id"],
        "context": {"page": page, "userAgent": click["user_agent"], "device": {"type": click["device"]}},
        "messageId": click["event_id"],
        "originalTimestamp": at,
        "properties": {**properties, "page_type": click["page_type"]},
        "timestamp": at,
        "type": "page",
        "userId": click.get("user_id"),
    }
    if click["event_type"] in TRACKED:
        event |= {"type": "track", "event": TRACKED[click["event_type"]]}
    return event


def main() -> None:
    for line in gzip.decompress(sample.path().read_bytes()).splitlines():
        click = orjson.loads(line)
        if not click.get("consent"):
            continue
        event = event_of(click)
        print(orjson.dumps(event).decode())
        if click["event_type"] == "login":
            identify = {**event, "type": "identify", "messageId": f"{event['messageId']}-who"}
            print(orjson.dumps(identify).decode())


if __name__ == "__main__":
    main()
