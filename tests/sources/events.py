"""Events after the vendors' documents, which `test_profiles` cites; all at one time."""

from __future__ import annotations

from typing import Any

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"

NOON_MS = 1_709_812_800_000
"""2024-03-07T12:00:00Z"""

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

COLUMNS = """
app_id platform etl_tstamp collector_tstamp dvce_created_tstamp event event_id txn_id name_tracker
v_tracker v_collector v_etl user_id user_ipaddress user_fingerprint domain_userid domain_sessionidx
network_userid geo_country geo_region geo_city geo_zipcode geo_latitude geo_longitude geo_region_name
ip_isp ip_organization ip_domain ip_netspeed page_url page_title page_referrer page_urlscheme
page_urlhost page_urlport page_urlpath page_urlquery page_urlfragment refr_urlscheme refr_urlhost
refr_urlport refr_urlpath refr_urlquery refr_urlfragment refr_medium refr_source refr_term mkt_medium
mkt_source mkt_term mkt_content mkt_campaign contexts se_category se_action se_label se_property se_value
unstruct_event tr_orderid tr_affiliation tr_total tr_tax tr_shipping tr_city tr_state tr_country
ti_orderid ti_sku ti_name ti_category ti_price ti_quantity pp_xoffset_min pp_xoffset_max pp_yoffset_min
pp_yoffset_max useragent br_name br_family br_version br_type br_renderengine br_lang br_features_pdf
br_features_flash br_features_java br_features_director br_features_quicktime br_features_realplayer
br_features_windowsmedia br_features_gears br_features_silverlight br_cookies br_colordepth br_viewwidth
br_viewheight os_name os_family os_manufacturer os_timezone dvce_type dvce_ismobile dvce_screenwidth
dvce_screenheight doc_charset doc_width doc_height tr_currency tr_total_base tr_tax_base tr_shipping_base
ti_currency ti_price_base base_currency geo_timezone mkt_clickid mkt_network etl_tags dvce_sent_tstamp
refr_domain_userid refr_dvce_tstamp derived_contexts domain_sessionid derived_tstamp event_vendor
event_name event_format event_version event_fingerprint true_tstamp
"""
"""Of Snowplow's enriched events, in the order that its documents give them."""


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

CLOUD = {
    "specversion": "1.0",
    "id": "A234-1234-1234",
    "source": "/web",
    "type": "com.bank.page_view",
    "time": "2024-03-07T12:00:00Z",
    "datacontenttype": "application/json",
    "data": {"visitor_id": "v-1", "event_type": "page_view", "page_url": "/loans"},
}
