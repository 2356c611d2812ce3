"""Events as the vendors' documents show them, and the clicks they are."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from streamer.pipeline.decode import Arrived, ClickDecoder, Rejected
from streamer.schemas.click import Click
from streamer.settings import ClickSettings
from streamer.sources import PROFILES, click_decoder, mapping_of
from tests.sources.events import (
    CLOUD,
    COLUMNS,
    GA4,
    MATOMO,
    NOON_MS,
    POSTHOG,
    SEGMENT_PAGE,
    SEGMENT_TRACK,
    SNOWPLOW,
    parameter,
)


def decode(source: str, record: Any) -> Arrived | None:
    value = record if isinstance(record, bytes) else json.dumps(record).encode()
    decoder: ClickDecoder = click_decoder(ClickSettings(source=source))
    return decoder.decode(value, NOON_MS, "topic-0-17")


def click_of(source: str, record: Any) -> Click:
    arrived = decode(source, record)
    assert arrived is not None
    return arrived.click


def refusal(source: str, record: Any) -> str:
    with pytest.raises(Rejected) as refused:
        decode(source, record)
    return refused.value.reason


# Segment: https://www.twilio.com/docs/segment/connections/spec/page and .../track


def test_a_page_of_segment_is_a_page_view_at_the_time_that_segment_corrected() -> None:
    arrived = decode("segment", SEGMENT_PAGE)
    assert arrived is not None
    assert (arrived.visitor_id, arrived.user_id, arrived.crawler) == ("507f191e810c19729de860ea", None, False)
    assert arrived.click == Click(
        NOON_MS,
        "022bb90c-bbac-11e4-8dfc-aa07a5b093db",
        "page_view",
        path="/loans/mortgage",
        search_query="fixed rate",
        referrer="www.google.com",
    )


def test_a_track_of_segment_is_named_by_its_event() -> None:
    arrived = decode("segment", SEGMENT_TRACK)
    assert arrived is not None
    assert arrived.user_id == "97980cfea0067"
    click = arrived.click
    assert (click.event_type, click.product_id, click.category, click.price) == (
        "Product Viewed",
        "507f1f77bcf86cd799439011",
        "Loans",
        18.99,
    )


def test_a_search_of_segment_has_its_query() -> None:
    click = click_of(
        "segment", {**SEGMENT_TRACK, "event": "Products Searched", "properties": {"query": "Car Loan"}}
    )
    assert (click.event_type, click.search_query) == ("search", "car loan")


def test_an_event_of_rudderstack_without_a_corrected_time_has_its_own() -> None:
    assert click_of("segment", {**SEGMENT_PAGE, "timestamp": None}).timestamp == 1_546_300_800_000


@pytest.mark.parametrize("kind", ["identify", "group", "alias"])
def test_who_somebody_is_is_no_click(kind: str) -> None:
    assert decode("segment", {**SEGMENT_PAGE, "type": kind}) is None


# Snowplow: https://docs.snowplow.io/docs/fundamentals/canonical-event/

LINK_CLICK = {"elementId": "apply-now", "targetUrl": "https://bank.example/apply"}
SPIDER = {
    "spiderOrRobot": True,
    "category": "SPIDER_OR_ROBOT",
    "reason": "FAILED_UA_EXCLUDE",
    "primaryImpact": "UNKNOWN",
}


def as_tsv(event: dict[str, str]) -> bytes:
    assert len(COLUMNS.split()) == 131
    return "\t".join(event.get(name, "") for name in COLUMNS.split()).encode()


def as_json(event: dict[str, str]) -> dict[str, Any]:
    """As the Analytics SDKs make it: times with an offset, self-describing JSON under its schema's name."""
    made: dict[str, Any] = {name: event.get(name) for name in COLUMNS.split()}
    for name in COLUMNS.split():
        if name.endswith("_tstamp") and made[name]:
            made[name] = made[name].replace(" ", "T") + "Z"
    del made["contexts"], made["unstruct_event"], made["derived_contexts"]
    return made


@pytest.mark.parametrize("form", [as_tsv, as_json])
def test_a_page_view_of_snowplow_is_the_same_click_in_both_forms(form: Any) -> None:
    arrived = decode("snowplow", form(SNOWPLOW))
    assert arrived is not None
    assert arrived.visitor_id == SNOWPLOW["domain_userid"]
    assert arrived.click == Click(
        NOON_MS,
        SNOWPLOW["event_id"],
        "page_view",
        path="/loans/mortgage",
        search_query="fixed rate",
        device="desktop",
        referrer="www.google.com",
    )


def test_a_link_click_of_snowplow_names_its_element_in_both_forms() -> None:
    event = {**SNOWPLOW, "event": "unstruct", "event_name": "link_click"}
    wrapped = {
        "schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",
        "data": {
            "schema": "iglu:com.snowplowanalytics.snowplow/link_click/jsonschema/1-0-1",
            "data": LINK_CLICK,
        },
    }
    tsv = click_of("snowplow", as_tsv({**event, "unstruct_event": json.dumps(wrapped)}))
    in_json = {**as_json(event), "unstruct_event_com_snowplowanalytics_snowplow_link_click_1": LINK_CLICK}
    assert (tsv.event_type, tsv.element) == ("click", "apply-now")
    assert click_of("snowplow", in_json) == tsv


def test_a_structured_event_of_snowplow_is_named_by_its_action() -> None:
    event = {
        **SNOWPLOW,
        "event": "struct",
        "se_category": "calculator",
        "se_action": "open",
        "se_label": "top",
    }
    click = click_of("snowplow", as_tsv(event))
    assert (click.event_type, click.category, click.element) == ("open", "calculator", "top")


def test_a_spider_by_snowplows_enrichment_is_a_bot_in_both_forms() -> None:
    schema = "iglu:com.iab.snowplow/spiders_and_robots/jsonschema/1-0-0"
    contexts = {
        "schema": "iglu:com.snowplowanalytics.snowplow/contexts/jsonschema/1-0-1",
        "data": [{"schema": schema, "data": SPIDER}],
    }
    tsv = decode("snowplow", as_tsv({**SNOWPLOW, "derived_contexts": json.dumps(contexts)}))
    in_json = decode(
        "snowplow", {**as_json(SNOWPLOW), "contexts_com_iab_snowplow_spiders_and_robots_1": [SPIDER]}
    )
    assert tsv is not None
    assert tsv.crawler
    assert in_json == tsv


def test_a_row_with_another_number_of_columns_is_not_snowplows() -> None:
    assert refusal("snowplow", as_tsv(SNOWPLOW) + b"\t") == "wrong_columns:snowplow"


# GA4: https://support.google.com/analytics/answer/7029846


def test_a_row_of_the_bigquery_export_is_a_click() -> None:
    arrived = decode("ga4", GA4)
    assert arrived is not None
    assert arrived.visitor_id == "1234567890.1709812700"
    assert arrived.click == Click(
        NOON_MS,
        "topic-0-17",
        "page_view",
        path="/loans/mortgage",
        dwell_ms=None,
        device="mobile",
        referrer="www.google.com",
    )


def test_numbers_of_the_export_may_be_numbers_too() -> None:
    assert click_of("ga4", {**GA4, "event_timestamp": NOON_MS * 1000}).timestamp == NOON_MS


def test_a_search_of_ga4_has_its_term() -> None:
    event = {
        **GA4,
        "event_name": "view_search_results",
        "event_params": [parameter("search_term", string_value="Car")],
    }
    click = click_of("ga4", event)
    assert (click.event_type, click.search_query) == ("search", "car")


def test_an_item_of_ga4_is_the_product() -> None:
    items = [{"item_id": "SKU_1", "item_name": "Loan", "item_category": "Loans", "price": 9.99}]
    click = click_of("ga4", {**GA4, "event_name": "view_item", "items": items})
    assert (click.event_type, click.product_id, click.category, click.price) == (
        "view_item",
        "SKU_1",
        "Loans",
        9.99,
    )


@pytest.mark.parametrize("name", ["session_start", "first_visit", "first_open"])
def test_marks_of_ga4_are_no_clicks(name: str) -> None:
    assert decode("ga4", {**GA4, "event_name": name}) is None


def test_without_consent_to_analytics_a_row_is_filtered() -> None:
    assert decode("ga4", {**GA4, "privacy_info": {"analytics_storage": "No"}}) is None


# PostHog: https://posthog.com/docs/data/events


@pytest.mark.parametrize("in_text", [False, True], ids=["captured", "of its Kafka topic"])
def test_a_pageview_of_posthog_is_a_click_of_the_device(in_text: bool) -> None:
    event = {**POSTHOG, "properties": json.dumps(POSTHOG["properties"])} if in_text else POSTHOG
    arrived = decode("posthog", event)
    assert arrived is not None
    assert (arrived.visitor_id, arrived.user_id) == ("018daf23-0000-7cf8-a4f1-94064c96df90", "customer-7")
    assert arrived.click == Click(
        NOON_MS,
        "018daf23-89b3-7cf8-a4f1-94064c96df90",
        "page_view",
        path="/loans/mortgage",
        dwell_ms=None,
        search_query="fixed",
        device="Desktop",
    )


@pytest.mark.parametrize(
    ("happened", "event_type"), [("click", "click"), ("submit", "form_submit"), (None, "click")]
)
def test_what_posthog_captured_by_itself_is_named_by_what_happened(happened: Any, event_type: str) -> None:
    event = {
        **POSTHOG,
        "event": "$autocapture",
        "properties": {"$event_type": happened, "$el_text": "Apply now", "$device_id": "d"},
    }
    click = click_of("posthog", event)
    assert (click.event_type, click.element) == (event_type, "Apply now")


def posthog(**properties: Any) -> dict[str, Any]:
    return {**POSTHOG, "properties": {**POSTHOG["properties"], **properties}}


@pytest.mark.parametrize(
    "elements",
    [
        {"properties": {"$elements": [{"tag_name": "button", "$el_text": "Apply now", "nth_child": 1}]}},
        {"properties": {"$elements": [{"tag_name": "button", "attr__id": "Apply now", "nth_child": 1}]}},
        {"elements": [{"tag_name": "button", "text": "Apply now", "attr_id": "apply"}]},
        {"elements": [{"tag_name": "button", "text": "", "attr_id": "Apply now"}]},
    ],
    ids=["captured text", "captured id", "exported text", "exported id"],
)
def test_posthog_names_the_innermost_element(elements: Any) -> None:
    assert click_of("posthog", {**POSTHOG, "event": "$autocapture", **elements}).element == "Apply now"


def test_a_touch_that_posthog_captured_is_a_click() -> None:
    assert (
        click_of("posthog", {**posthog(**{"$event_type": "touch"}), "event": "$autocapture"}).event_type
        == "click"
    )


@pytest.mark.parametrize("browser", ["bot", "browser"])
def test_a_bot_by_posthogs_own_list_is_one(browser: str) -> None:
    arrived = decode("posthog", posthog(**{"$browser_type": browser}))
    assert arrived is not None
    assert arrived.crawler == (browser == "bot")


def test_a_page_of_a_bot_is_a_page_view_too() -> None:
    assert click_of("posthog", {**POSTHOG, "event": "$bot_pageview"}).event_type == "page_view"


def test_visitors_that_share_an_id_before_posthog_hashed_them_are_nobody() -> None:
    before = {
        **posthog(**{"$device_id": None, "$cookieless_mode": True}),
        "distinct_id": "$posthog_cookieless",
    }
    assert refusal("posthog", before) == "missing_field:visitor_id:posthog"
    hashed = decode("posthog", {**before, "distinct_id": "cookieless_b7f1c0"})
    assert hashed is not None
    assert hashed.visitor_id == "cookieless_b7f1c0"


def test_a_time_that_posthog_has_not_corrected_is_corrected_by_when_it_was_sent() -> None:
    slow = {"timestamp": "2024-03-07T11:00:00.000Z", "sent_at": "2024-03-07T11:00:05.000Z"}
    assert click_of("posthog", {**POSTHOG, **slow}).timestamp == NOON_MS - 5000
    assert click_of("posthog", posthog(**{"$sent_at": "2024-03-07T11:00:05.000Z"})).timestamp == NOON_MS


def test_a_time_of_posthogs_kafka_topic_is_in_utc() -> None:
    assert click_of("posthog", {**POSTHOG, "timestamp": "2024-03-07 12:00:00.000000"}).timestamp == NOON_MS


@pytest.mark.parametrize(
    "name",
    ["$identify", "$feature_flag_called", "$web_vitals", "$$client_ingestion_warning"],
)
def test_what_posthog_records_of_itself_is_no_click(name: str) -> None:
    assert decode("posthog", {**POSTHOG, "event": name}) is None


# Matomo: https://developer.matomo.org/api-reference/tracking-api


@pytest.mark.parametrize("cdt", [MATOMO["cdt"], NOON_MS // 1000, "2024-03-07 12:00:00"])
def test_a_tracking_request_is_a_page_view(cdt: Any) -> None:
    arrived = decode("matomo", {**MATOMO, "cdt": cdt})
    assert arrived is not None
    assert arrived.visitor_id == "3d1f7ab9c2e45b60"
    assert arrived.click == Click(
        NOON_MS, "topic-0-17", "page_view", path="/loans/mortgage", referrer="www.google.com"
    )


@pytest.mark.parametrize(
    ("more", "event_type"),
    [
        ({"search": "car loan"}, "search"),
        ({"e_c": "calculator", "e_a": "open", "e_n": "top"}, "open"),
        ({"link": "https://partner.example/"}, "click"),
        ({"download": "https://bank.example/terms.pdf"}, "download"),
        ({"idgoal": "3"}, "goal"),
        ({"idgoal": "0", "ec_id": "1"}, "ecommerceOrder"),
        ({"idgoal": "0", "revenue": "12.5"}, "ecommerceAbandonedCart"),
        ({"c_n": "Rates", "c_p": "rates.png", "c_i": "expand"}, "expand"),
    ],
)
def test_a_tracking_request_is_what_its_parameters_say(more: dict[str, str], event_type: str) -> None:
    assert click_of("matomo", {**MATOMO, **more}).event_type == event_type


@pytest.mark.parametrize("more", [{"c_n": "Rates", "c_p": "rates.png"}, {"ca": "1"}])
def test_what_nobody_did_is_no_click_of_matomo(more: dict[str, str]) -> None:
    assert decode("matomo", {**MATOMO, **more}) is None


def test_an_event_of_matomo_is_a_click_also_where_it_says_that_it_is_no_page_view() -> None:
    assert click_of("matomo", {**MATOMO, "e_c": "calculator", "e_a": "open", "ca": "1"}).event_type == "open"


def test_the_visitor_id_that_a_site_insists_on_comes_first() -> None:
    arrived = decode("matomo", {**MATOMO, "cid": "ffffffffffffffff"})
    assert arrived is not None
    assert arrived.visitor_id == "ffffffffffffffff"


def test_the_first_item_of_an_order_of_matomo_is_the_product() -> None:
    items = '[["item1 SKU","item1 name","Loans",11.1111,2],["item2 SKU","item2 name","",0,1]]'
    click = click_of("matomo", {**MATOMO, "idgoal": "0", "ec_id": "1", "ec_items": items, "revenue": "22.22"})
    assert (click.product_id, click.category, click.price) == ("item1 SKU", "Loans", 22.22)


def test_matomos_own_names_of_search_parameters_are_known() -> None:
    found = {**MATOMO, "url": "https://bank.example/find?searchword=Car+Loan"}
    assert click_of("matomo", found).search_query == "car loan"


def test_an_action_of_a_visit_is_a_click_with_its_dwell() -> None:
    action = {
        "type": "action",
        "visitorId": "3d1f7ab9c2e45b60",
        "url": "https://bank.example/loans",
        "pageTitle": "Loans",
        "pageId": "1234567",
        "timeSpent": "42",
        "timestamp": NOON_MS // 1000,
    }
    click = click_of("matomo", action)
    assert (click.event_type, click.dwell_ms, click.timestamp) == ("page_view", 42_000, NOON_MS)
    assert click.event_id == "1234567"
    assert click_of("matomo", {**action, "timeSpent": 0}).dwell_ms is None
    assert decode("matomo", {**action, "type": "content", "contentName": "Rates"}) is None


# CloudEvents: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md


def test_a_structured_cloudevent_holds_a_click() -> None:
    arrived = decode("cloudevents", CLOUD)
    assert arrived is not None
    assert arrived.visitor_id == "v-1"
    assert arrived.click == Click(NOON_MS, "A234-1234-1234", "page_view", path="/loans")


@pytest.mark.parametrize("at", [NOON_MS - 1000, "2024-03-07T11:59:59Z"])
def test_the_clicks_own_time_comes_before_that_of_its_envelope(at: Any) -> None:
    assert (
        click_of("cloudevents", {**CLOUD, "data": {"visitor_id": "v", "timestamp": at}}).timestamp
        == NOON_MS - 1000
    )


def test_a_cloudevent_is_named_by_its_type_if_its_data_does_not_say() -> None:
    assert click_of("cloudevents", {**CLOUD, "data": {"visitor_id": "v"}}).event_type == "com.bank.page_view"


# All

SAMPLES: dict[str, dict[str, Any]] = {
    "cloudevents": CLOUD,
    "ga4": GA4,
    "matomo": MATOMO,
    "posthog": POSTHOG,
    "segment": SEGMENT_PAGE,
    "snowplow": as_json(SNOWPLOW),
}


LEFT = {"$current_url": "https://bank.example/next", "$prev_pageview_pathname": "/loans/mortgage"}
TELLS_DWELL = [
    ("snowplow", as_tsv({**SNOWPLOW, "event": "page_ping"}), None),
    ("snowplow", as_json({**SNOWPLOW, "event": "page_ping"}), None),
    ("matomo", {**MATOMO, "ping": "1"}, None),
    ("ga4", {**GA4, "event_name": "user_engagement"}, 4200),
    ("ga4", {**GA4, "event_name": "scroll"}, 4200),
    ("posthog", {**POSTHOG, "event": "$pageleave"}, 12_500),
    ("posthog", {**POSTHOG, "event": "$pageleave", "properties": POSTHOG["properties"] | LEFT}, 12_500),
]


@pytest.mark.parametrize(("source", "record", "dwell_ms"), TELLS_DWELL)
def test_heartbeats_are_no_clicks_and_tell_how_long_a_page_was_read(
    source: str, record: Any, dwell_ms: int | None
) -> None:
    told, of_page = decode(source, record), decode(source, SAMPLES[source])
    assert told is not None
    assert of_page is not None
    assert (told.is_click, told.visitor_id) == (False, of_page.visitor_id)
    assert told.click == Click(NOON_MS, "", "", path="/loans/mortgage", dwell_ms=dwell_ms)


@pytest.mark.parametrize("of", SAMPLES)
@pytest.mark.parametrize("source", PROFILES)
def test_an_event_of_another_vendor_is_a_dead_letter_that_names_the_profile(source: str, of: str) -> None:
    if source == of:
        assert decode(source, SAMPLES[of]) is not None
    else:
        assert refusal(source, SAMPLES[of]).split(":")[-1] == source


@pytest.mark.parametrize("source", PROFILES)
def test_every_profile_cites_its_vendors_documents(source: str) -> None:
    from importlib import resources

    assert "# https://" in (resources.files("streamer.sources") / f"{source}.toml").read_text()


@pytest.mark.parametrize("source", PROFILES)
def test_the_key_of_a_record_is_the_visitor_of_its_click(source: str) -> None:
    arrived = decode(source, SAMPLES[source])
    assert arrived is not None
    value = json.dumps(SAMPLES[source]).encode()
    assert mapping_of(source).visitor_of(value) == arrived.visitor_id
    assert mapping_of(source).time_of(value) == arrived.click.timestamp


GOLD: dict[str, Any] = {"plan": "gold", "seats": 3}
IN_SEGMENT = {"page": {"title": "Mortgages"}, "campaign": {"source": "Newsletter", "name": "Autumn"}}
IN_GA4 = [parameter("plan", string_value="gold"), parameter("seats", int_value="3")]
GA4_TRAFFIC = {"manual_source": "Newsletter", "manual_campaign_name": "Autumn"}
SELF_DESCRIBING = {"data": {"data": {"seats": 3}}}
TAGGED = "https://bank.example/?mtm_source=Newsletter&pk_campaign=Autumn"
IN_CLOUD = {"page_title": "Mortgages", "page_url": "/?utm_source=Newsletter", "properties": GOLD}


def beside(record: dict[str, Any], name: str, more: dict[str, Any]) -> dict[str, Any]:
    return {**record, name: {**record[name], **more}}


@pytest.mark.parametrize(
    ("source", "record", "without"),
    [
        ("segment", {**SEGMENT_TRACK, "context": IN_SEGMENT, "properties": GOLD}, set()),
        (
            "snowplow",
            {**SNOWPLOW, "mkt_source": "Newsletter", "plan": "gold", "unstruct_event": SELF_DESCRIBING},
            {"utm_campaign"},
        ),
        (
            "ga4",
            {
                **GA4,
                "event_params": IN_GA4 + list(GA4["event_params"]),
                "collected_traffic_source": GA4_TRAFFIC,
            },
            set(),
        ),
        ("posthog", beside(POSTHOG, "properties", {**GOLD, "utm_source": "Newsletter"}), {"utm_campaign"}),
        ("matomo", {**MATOMO, **GOLD, "url": TAGGED}, set()),
        ("cloudevents", beside(CLOUD, "data", IN_CLOUD), {"utm_campaign"}),
    ],
    ids=["segment", "snowplow", "ga4", "posthog", "matomo", "cloudevents"],
)
def test_title_campaign_and_properties_are_found(source: str, record: Any, without: set[str]) -> None:
    expected = {
        "page_title": "Loans / Mortgages" if source == "matomo" else "Mortgages",
        "properties.plan": "gold",
        "properties.seats": "3",
        "utm_campaign": "Autumn",
        "utm_source": "Newsletter",
    }
    keep = tuple(expected)
    value = json.dumps(record).encode()
    arrived = click_decoder(ClickSettings(source=source, keep=keep)).decode(value, NOON_MS, "topic-0-17")
    assert arrived is not None
    assert arrived.click.extras == {name: expected[name] for name in expected if name not in without}
    assert replace(arrived.click, extras=None) == click_of(source, record)


def test_a_column_of_snowplow_is_a_property() -> None:
    cells = [str(SNOWPLOW.get(name, "")) for name in COLUMNS.split()]
    clicks = ClickSettings(source="snowplow", keep=("properties.app_id", "page_title"))
    arrived = click_decoder(clicks).decode("\t".join(cells).encode(), NOON_MS, "topic-0-17")
    assert arrived is not None
    assert arrived.click.extras == {"page_title": "Mortgages", "properties.app_id": "bank"}
