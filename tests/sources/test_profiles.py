"""Events as the vendors' documents show them, and the clicks they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.click import Click
from streamer.pipeline.decode import Arrived, ClickDecoder, Rejected
from streamer.settings import ClickSettings
from streamer.sources import PROFILES, click_decoder, mapping_of

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"
NOON_MS = 1_709_812_800_000
"""2024-03-07T12:00:00Z"""


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

SEGMENT_PAGE = {
    "anonymousId": "507f191e810c19729de860ea",
    "channel": "browser",
    "context": {
        "ip": "8.8.8.8",
        "userAgent": AGENT,
        "page": {
            "path": "/loans/mortgage/",
            "referrer": "https://www.google.com/",
            "search": "?q=fixed+rate",
            "title": "Mortgages",
            "url": "https://bank.example/loans/mortgage/?q=fixed+rate",
        },
    },
    "integrations": {"All": True},
    "messageId": "022bb90c-bbac-11e4-8dfc-aa07a5b093db",
    "name": "Mortgages",
    "properties": {"title": "Mortgages", "url": "https://bank.example/loans/mortgage/?q=fixed+rate"},
    "receivedAt": "2024-03-07T12:00:01.266Z",
    "sentAt": "2019-01-01T00:00:00.169Z",
    "originalTimestamp": "2019-01-01T00:00:00.000Z",
    "timestamp": "2024-03-07T12:00:00.000Z",
    "type": "page",
    "userId": None,
    "version": "1.1",
}
SEGMENT_TRACK = {
    **SEGMENT_PAGE,
    "type": "track",
    "event": "Product Viewed",
    "userId": "97980cfea0067",
    "properties": {"product_id": "507f1f77bcf86cd799439011", "category": "Loans", "price": 18.99},
}


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

SNOWPLOW = {
    "app_id": "bank",
    "platform": "web",
    "etl_tstamp": "2024-03-07 12:00:02.100",
    "collector_tstamp": "2024-03-07 12:00:01.000",
    "dvce_created_tstamp": "2024-03-07 11:00:00.000",
    "event": "page_view",
    "event_id": "c6ef3124-b53a-4b13-a233-0088f79dcbcb",
    "v_collector": "ssc-2.9.0-kafka",
    "v_etl": "snowplow-enrich-kafka-3.9.0",
    "domain_userid": "d0b0c8a2-1b0a-4f5e-9d7e-0a1b2c3d4e5f",
    "network_userid": "ecdff4d0-9175-40ac-a8bb-325c49733607",
    "page_url": "https://bank.example/loans/mortgage?q=fixed%20rate",
    "page_title": "Mortgages",
    "page_referrer": "https://www.google.com/",
    "useragent": AGENT,
    "dvce_type": "Computer",
    "dvce_ismobile": "0",
    "dvce_sent_tstamp": "2024-03-07 11:00:01.000",
    "derived_tstamp": "2024-03-07 12:00:00.000",
    "event_vendor": "com.snowplowanalytics.snowplow",
    "event_name": "page_view",
    "event_format": "jsonschema",
    "event_version": "1-0-0",
}
LINK_CLICK = {"elementId": "apply-now", "targetUrl": "https://bank.example/apply"}
SPIDER = {
    "spiderOrRobot": True,
    "category": "SPIDER_OR_ROBOT",
    "reason": "FAILED_UA_EXCLUDE",
    "primaryImpact": "UNKNOWN",
}


def columns() -> list[str]:
    """By the position that the documents give them, of 131."""
    return [
        "app_id",
        "platform",
        "etl_tstamp",
        "collector_tstamp",
        "dvce_created_tstamp",
        "event",
        "event_id",
        "txn_id",
        "name_tracker",
        "v_tracker",
        "v_collector",
        "v_etl",
        "user_id",
        "user_ipaddress",
        "user_fingerprint",
        "domain_userid",
        "domain_sessionidx",
        "network_userid",
        "geo_country",
        "geo_region",
        "geo_city",
        "geo_zipcode",
        "geo_latitude",
        "geo_longitude",
        "geo_region_name",
        "ip_isp",
        "ip_organization",
        "ip_domain",
        "ip_netspeed",
        "page_url",
        "page_title",
        "page_referrer",
        "page_urlscheme",
        "page_urlhost",
        "page_urlport",
        "page_urlpath",
        "page_urlquery",
        "page_urlfragment",
        "refr_urlscheme",
        "refr_urlhost",
        "refr_urlport",
        "refr_urlpath",
        "refr_urlquery",
        "refr_urlfragment",
        "refr_medium",
        "refr_source",
        "refr_term",
        "mkt_medium",
        "mkt_source",
        "mkt_term",
        "mkt_content",
        "mkt_campaign",
        "contexts",
        "se_category",
        "se_action",
        "se_label",
        "se_property",
        "se_value",
        "unstruct_event",
        "tr_orderid",
        "tr_affiliation",
        "tr_total",
        "tr_tax",
        "tr_shipping",
        "tr_city",
        "tr_state",
        "tr_country",
        "ti_orderid",
        "ti_sku",
        "ti_name",
        "ti_category",
        "ti_price",
        "ti_quantity",
        "pp_xoffset_min",
        "pp_xoffset_max",
        "pp_yoffset_min",
        "pp_yoffset_max",
        "useragent",
        "br_name",
        "br_family",
        "br_version",
        "br_type",
        "br_renderengine",
        "br_lang",
        "br_features_pdf",
        "br_features_flash",
        "br_features_java",
        "br_features_director",
        "br_features_quicktime",
        "br_features_realplayer",
        "br_features_windowsmedia",
        "br_features_gears",
        "br_features_silverlight",
        "br_cookies",
        "br_colordepth",
        "br_viewwidth",
        "br_viewheight",
        "os_name",
        "os_family",
        "os_manufacturer",
        "os_timezone",
        "dvce_type",
        "dvce_ismobile",
        "dvce_screenwidth",
        "dvce_screenheight",
        "doc_charset",
        "doc_width",
        "doc_height",
        "tr_currency",
        "tr_total_base",
        "tr_tax_base",
        "tr_shipping_base",
        "ti_currency",
        "ti_price_base",
        "base_currency",
        "geo_timezone",
        "mkt_clickid",
        "mkt_network",
        "etl_tags",
        "dvce_sent_tstamp",
        "refr_domain_userid",
        "refr_dvce_tstamp",
        "derived_contexts",
        "domain_sessionid",
        "derived_tstamp",
        "event_vendor",
        "event_name",
        "event_format",
        "event_version",
        "event_fingerprint",
        "true_tstamp",
    ]


def as_tsv(event: dict[str, str]) -> bytes:
    assert len(columns()) == 131
    return "\t".join(event.get(name, "") for name in columns()).encode()


def as_json(event: dict[str, str]) -> dict[str, Any]:
    """As the Analytics SDKs make it: times with an offset, self-describing JSON under its schema's name."""
    made: dict[str, Any] = {name: event.get(name) for name in columns()}
    for name in columns():
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


def test_a_page_ping_is_no_click() -> None:
    assert decode("snowplow", as_tsv({**SNOWPLOW, "event": "page_ping"})) is None


def test_a_row_with_another_number_of_columns_is_not_snowplows() -> None:
    assert refusal("snowplow", as_tsv(SNOWPLOW) + b"\t") == "wrong_columns:snowplow"


# GA4: https://support.google.com/analytics/answer/7029846


def parameter(key: str, **value: Any) -> dict[str, Any]:
    empty = dict.fromkeys(("string_value", "int_value", "float_value", "double_value"))
    return {"key": key, "value": {**empty, **value}}


GA4 = {
    "event_date": "20240307",
    "event_timestamp": str(NOON_MS * 1000 + 123),
    "event_name": "page_view",
    "event_params": [
        parameter("ga_session_id", int_value="1709812700"),
        parameter("page_location", string_value="https://bank.example/loans/mortgage?gclid=x"),
        parameter("page_title", string_value="Mortgages"),
        parameter("page_referrer", string_value="https://www.google.com/"),
        parameter("engagement_time_msec", int_value="4200"),
    ],
    "user_id": None,
    "user_pseudo_id": "1234567890.1709812700",
    "privacy_info": {"analytics_storage": "Yes", "ads_storage": "Yes", "uses_transient_token": "No"},
    "device": {"category": "mobile", "operating_system": "Android"},
    "items": [],
}


def test_a_row_of_the_bigquery_export_is_a_click() -> None:
    arrived = decode("ga4", GA4)
    assert arrived is not None
    assert arrived.visitor_id == "1234567890.1709812700"
    assert arrived.click == Click(
        NOON_MS,
        "topic-0-17",
        "page_view",
        path="/loans/mortgage",
        dwell_ms=4200,
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


@pytest.mark.parametrize("name", ["user_engagement", "session_start", "first_visit", "scroll"])
def test_heartbeats_and_marks_of_ga4_are_no_clicks(name: str) -> None:
    assert decode("ga4", {**GA4, "event_name": name}) is None


def test_without_consent_to_analytics_a_row_is_filtered() -> None:
    assert decode("ga4", {**GA4, "privacy_info": {"analytics_storage": "No"}}) is None


# PostHog: https://posthog.com/docs/data/events

POSTHOG = {
    "uuid": "018daf23-89b3-7cf8-a4f1-94064c96df90",
    "event": "$pageview",
    "distinct_id": "customer-7",
    "timestamp": "2024-03-07T12:00:00.000Z",
    "properties": {
        "$device_id": "018daf23-0000-7cf8-a4f1-94064c96df90",
        "$user_id": "customer-7",
        "$current_url": "https://bank.example/loans/mortgage?q=fixed",
        "$referrer": "$direct",
        "$device_type": "Desktop",
        "$raw_user_agent": AGENT,
        "$prev_pageview_duration": 12.5,
        "title": "Mortgages",
    },
}


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
        dwell_ms=12_500,
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


@pytest.mark.parametrize("name", ["$pageleave", "$identify", "$feature_flag_called", "$web_vitals"])
def test_what_posthog_records_of_itself_is_no_click(name: str) -> None:
    assert decode("posthog", {**POSTHOG, "event": name}) is None


# Matomo: https://developer.matomo.org/api-reference/tracking-api

MATOMO = {
    "idsite": "1",
    "rec": "1",
    "_id": "3d1f7ab9c2e45b60",
    "rand": "4711",
    "cdt": str(NOON_MS // 1000),
    "url": "https://bank.example/loans/mortgage",
    "urlref": "https://www.google.com/",
    "action_name": "Loans / Mortgages",
    "ua": AGENT,
}


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
    ],
)
def test_a_tracking_request_is_what_its_parameters_say(more: dict[str, str], event_type: str) -> None:
    assert click_of("matomo", {**MATOMO, **more}).event_type == event_type


def test_a_heartbeat_of_matomo_is_no_click() -> None:
    assert decode("matomo", {**MATOMO, "ping": "1"}) is None


def test_an_action_of_a_visit_is_a_click_with_its_dwell() -> None:
    action = {
        "type": "action",
        "visitorId": "3d1f7ab9c2e45b60",
        "url": "https://bank.example/loans",
        "pageTitle": "Loans",
        "timeSpent": "42",
        "timestamp": NOON_MS // 1000,
    }
    click = click_of("matomo", action)
    assert (click.event_type, click.dwell_ms, click.timestamp) == ("page_view", 42_000, NOON_MS)


# CloudEvents: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md

CLOUD = {
    "specversion": "1.0",
    "id": "A234-1234-1234",
    "source": "/web",
    "type": "com.bank.page_view",
    "time": "2024-03-07T12:00:00Z",
    "datacontenttype": "application/json",
    "data": {"visitor_id": "v-1", "event_type": "page_view", "page_url": "/loans"},
}


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
