"""What `streamer map` says of records, and the drafts that it makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamer.pipeline.mapping.plan import CLICK_FIELDS, CompiledMapping
from streamer.pipeline.mapping.spec import read_mapping
from streamer.sources import PROFILES, mapping_of
from streamer.sources.check import COSTS, check
from streamer.sources.suggest import suggest
from tests.conftest import ROOT, RunStreamer
from tests.sources.events import GA4, MATOMO, NOON_MS, POSTHOG, SEGMENT_PAGE, SEGMENT_TRACK


def lines(*records: Any) -> list[bytes]:
    return [json.dumps(record).encode() for record in records]


def drafted(*records: Any) -> dict[str, Any]:
    """The first record by the mapping that is drafted from all."""
    found = CompiledMapping(read_mapping(suggest(lines(*records)), "draft")).read(lines(*records)[0])
    assert found is not None
    return {name: value for name, value in zip(CLICK_FIELDS, found, strict=True) if value is not None}


def test_a_check_counts_where_records_end_and_where_fields_come_from() -> None:
    report = check(
        mapping_of("segment"),
        lines(SEGMENT_PAGE, SEGMENT_TRACK, {**SEGMENT_PAGE, "type": "identify"}, {"type": "page"}),
    )
    assert (report.records, report.clicks, report.filtered) == (4, 2, 1)
    assert report.refused == {"missing_field:visitor_id:segment": 1}
    fields = {field.field: field for field in report.fields}
    assert fields["page_url"].sources == {"context.page.url": 2}
    assert fields["user_id"].found == 1
    assert fields["dwell_ms"].costs == COSTS["dwell_ms"]
    assert fields["price"].example == 18.99


def test_a_check_says_where_extras_come_from() -> None:
    keep = ("utm_source", "utm_term", "properties.price", "page_title")
    context = {"page": {"url": "https://b.example/?utm_term=car"}, "campaign": {"source": "Newsletter"}}
    report = check(mapping_of("segment", None, keep), lines({**SEGMENT_TRACK, "context": context}), keep)
    fields = {field.field: field for field in report.fields}
    assert fields["utm_source"].sources == {"context.campaign.source": 1}
    assert (fields["utm_term"].sources, fields["utm_term"].example) == ({"page_url": 1}, "car")
    assert fields["properties.price"].sources == {"properties.price": 1}
    assert (fields["page_title"].found, fields["page_title"].costs) == (0, COSTS["page_title"])


@pytest.mark.parametrize(
    ("at", "unit"),
    [
        (NOON_MS // 1000, "s"),
        (NOON_MS, "ms"),
        (NOON_MS * 1000, "us"),
        (NOON_MS * 1_000_000, "ns"),
        ("2024-03-07T12:00:00Z", "iso8601"),
        ("2024-03-07 12:00:00", "iso8601_utc"),
    ],
)
def test_a_draft_knows_the_unit_of_a_time_by_its_range(at: Any, unit: str) -> None:
    record = {"cookieId": "c", "ts": at, "eventName": "view", "page": {"url": "https://b.example/x?q=car"}}
    assert f'unit = "{unit}"' in suggest(lines(record))
    assert drafted(record) == {
        "visitor_id": "c",
        "timestamp": NOON_MS,
        "event_type": "view",
        "page_url": "https://b.example/x?q=car",
        "search_query": "car",
    }


@pytest.mark.parametrize(
    ("record", "visitor"),
    [(SEGMENT_TRACK, "anonymousId"), (GA4, "user_pseudo_id"), (POSTHOG, "$device_id")],
    ids=["segment", "ga4", "posthog"],
)
def test_a_draft_finds_a_vendors_visitor_and_time(record: dict[str, Any], visitor: str) -> None:
    found = drafted(record)
    assert found["visitor_id"] in (record.get(visitor), record.get("properties", {}).get(visitor))
    assert found["timestamp"] == NOON_MS


def test_a_draft_knows_less_common_names_by_their_parts() -> None:
    record = {
        "hdr": {
            "guid": "g-1",
            "deviceKey": "d",
            "deviceKind": "phone",
            "epochSecs": NOON_MS // 1000,
            "evt": "seen",
        },
        "body": {"screen": {"uri": "app://bank/loans"}, "skuCount": 3},
        "optIn": "Y",
    }
    assert drafted(record) == {
        "visitor_id": "d",
        "event_id": "g-1",
        "timestamp": NOON_MS,
        "event_type": "seen",
        "page_url": "app://bank/loans",
    }
    assert 'consent = "optIn"' in suggest(lines(record))


def test_a_draft_takes_no_id_for_the_events_that_several_events_have() -> None:
    views = [{"id": "same", "cookieId": "c", "ts": NOON_MS + place} for place in range(3)]
    assert "event_id = " not in suggest(lines(*views)).replace("# event_id = ", "")


def test_a_draft_names_events_by_what_all_of_them_have() -> None:
    track, page = SEGMENT_TRACK, SEGMENT_PAGE
    assert suggest(lines(track, page, page)).endswith('[[event]]\ntype = "type"\n')


@pytest.mark.parametrize(
    ("name", "is_beat"),
    [("page_ping", True), ("PagePing", True), ("heartbeat", True), ("$pageleave", True), ("Shopping", False)],
)
def test_a_draft_takes_heartbeats_for_no_clicks(name: str, is_beat: bool) -> None:
    record = {"cookieId": "c", "ts": NOON_MS, "event": name}
    text = suggest(lines(record, {**record, "event": "view"}))
    assert (f'when = {{ "event" = ["{name}"] }}\ndrop = true\ndwell = true' in text) == is_beat
    assert CompiledMapping(read_mapping(text, "draft")).read(lines(record)[0]) is not None


def test_a_draft_says_what_is_required_and_was_not_found() -> None:
    assert '# visitor_id = ""  # required, and nothing was found' in suggest(lines({"ts": NOON_MS}))


def test_the_command_checks_drafts_and_says_what_is_wrong(run_streamer: RunStreamer, tmp_path: Path) -> None:
    sample = tmp_path / "sample.jsonl"
    sample.write_bytes(b"\n".join(lines(MATOMO, {**MATOMO, "ping": "1"})))
    report = json.loads(run_streamer("map", "--check", str(sample), "--source", "matomo", "--json").stdout)
    assert (report["clicks"], report["filtered"], report["tell_dwell"], report["refused"]) == (1, 1, 1, {})
    other = run_streamer("map", "--check", str(sample), "--source", "segment")
    assert other.returncode == 1
    assert "2 dead letters: unknown_event:event_type:segment" in other.stdout
    assert run_streamer("map", "--check", str(sample)).returncode == 2
    assert run_streamer("map").returncode == 2
    unknown = run_streamer("map", "--check", str(sample), "--source", "nobody")
    assert unknown.returncode == 2
    assert "neither a profile nor a file" in unknown.stderr
    sample.write_bytes(lines(SEGMENT_TRACK)[0])
    draft = tmp_path / "mine.toml"
    draft.write_text(run_streamer("map", "--suggest", str(sample)).stdout)
    assert run_streamer("map", "--check", str(sample), "--source", str(draft)).returncode == 0


def test_the_mapping_in_the_documents_reads_what_it_says() -> None:
    page = (ROOT / "docs" / "sources.md").read_text()
    example = page.split("```toml\n")[1].split("```")[0]
    mapping = CompiledMapping(read_mapping(example, "example"))
    record = {
        "cookie": {"id": "v"},
        "occurred": NOON_MS // 1000,
        "kind_of_event": "action",
        "action": "sent",
        "button": {"name": "apply"},
        "kind": "t",
        "attributes": [{"name": "category", "value": "loans"}],
    }
    found = mapping.read(json.dumps(record).encode())
    assert found is not None
    assert {name: value for name, value in zip(CLICK_FIELDS, found, strict=True) if value is not None} == {
        "visitor_id": "v",
        "timestamp": NOON_MS,
        "event_type": "form_submit",
        "element": "apply",
        "device": "tablet",
        "category": "loans",
        "page_type": "page",
    }
    assert all(f"`{profile}`" in page for profile in PROFILES)
