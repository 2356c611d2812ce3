"""Bytes of a record in, one click out: read, checked, scrubbed, cut to size. The hottest path there is.

- Every input ends as `Arrived`, as None (no consent, or no click: to be counted as filtered) or as
  `Rejected`.
- `Rejected.reason` names the rule and at most a field of our contract, never what was sent.
- A click without consent is None even if it breaks every other rule, so that it isn't kept as a dead letter
  either: whatever is JSON is asked for its consent before it is rejected.
- Whether an event time is too old or in the future isn't judged here: that takes the arrival clock.
- Depends on nothing but its arguments: the same bytes and arrival always give the same click.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, Protocol, cast

import msgspec
from msgspec.structs import astuple

from streamer.native.brackets import openings
from streamer.pipeline.bots import is_crawler
from streamer.pipeline.extras import Extras, JsonProperties
from streamer.pipeline.json_text import REPLACEMENT, with_whole_characters
from streamer.pipeline.normalize import (
    MAX_SCANNED,
    Memo,
    Paths,
    before_query,
    cut,
    host_of,
    label,
    search_query,
)
from streamer.pipeline.registered import PREFIX_SIZES, RegisteredSchemas
from streamer.schemas import codec
from streamer.schemas.click import MAX_ID_BYTES, Click

Format = Literal["auto", "json", "avro"]
Stage = Literal["decode", "validate"]
Read = Callable[[bytes], tuple[Any, ...] | None]
"""From a record to the fields of click.avsc in its order, in the types that `_Wire` has, times in ms UTC;
None for what is to be filtered. Raises Rejected."""

DEFAULT_MAX_BYTES = 262_144
_SURELY_SHORT = MAX_ID_BYTES // 4
"""Characters that never take more bytes than MAX_ID_BYTES."""
MAX_PRODUCT_BYTES = 128
MAX_DWELL_MS = 86_400_000
"""Nobody reads one page for more than a day: a longer or negative dwell is a broken timer, kept as null."""
MAX_CLOCK_LAG_MS = 7_200_000
"""A `sent_at` up to this far behind the arrival is taken for a wrong clock (an hour of daylight saving and
the usual delays), one further behind for a click that was held back."""
_NEVER_SET_BEFORE_MS = 631_152_000_000
"""1990, before there were web clicks: a clock that shows less was never set."""
MAX_DEPTH = 128
"""Levels of nesting. Set here, for the parser's own limit depends on how deep in the stack it is called."""
_DEEP_FROM_BYTES = 512
"""No shorter text can be nested deeper than the parser takes (1,000 levels, less those of its callers)."""
_MIB = 1024 * 1024
_MIN_INT64, _MAX_INT64 = -(2**63), 2**63 - 1

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ONE_MS = dt.timedelta(milliseconds=1)
_JSON_STARTS = {"auto": b"{ \t\r\n", "json": bytes(range(256)), "avro": b""}
_AVRO_STARTS = {"auto": b"\0", "json": b"", "avro": b"\0"}
"""First bytes by which a format is known."""
_LAST_MAGIC = max(PREFIX_SIZES)
"""No text begins with a byte up to this one."""
_IDS = ("visitor_id", "event_id", "user_id")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_FIELD_IN_ERROR = re.compile(r"`(?:\$\.)?(\w+)`")
_QUERIES_KEPT = 32_768
_HOSTS_KEPT = 4096
_LABELS_KEPT = 8192
_USER_AGENTS_KEPT = 8192


class OtherVisitor(Protocol):
    """Finds the visitor of a click of our own shape elsewhere than in `visitor_id`. Raises Rejected."""

    def in_json(self, value: bytes) -> str: ...

    def in_fields(self, values: Sequence[Any]) -> str: ...


class Rejected(Exception):  # noqa: N818, the name of an outcome like Arrived
    """A record that is no click. `stage`: "decode", it can't be read; "validate", it breaks the contract."""

    def __init__(self, stage: Stage, reason: str) -> None:
        super().__init__(f"{stage}: {reason}")
        self.stage = stage
        self.reason = reason


@dataclass
class Arrived:
    """A click that may enter a session. `click.timestamp` is corrected by `sent_at`, and fits 64 bits.

    Or, where it `is_click` not, what tells how long a page was read: of `click` only the time, the path and
    the dwell count; without a dwell the page was read until then.
    """

    visitor_id: str
    user_id: str | None
    crawler: bool
    is_click: bool
    click: Click


class _Object(msgspec.Struct, gc=False):
    """Any JSON object, its content skipped."""


class _Wire(msgspec.Struct, gc=False):
    """The fields of click.avsc in its order, in the types that JSON may give them."""

    visitor_id: str
    timestamp: int | float | dt.datetime
    event_type: str
    event_id: str | None = None
    sent_at: int | float | dt.datetime | None = None
    page_type: str | None = None
    page_url: str | None = None
    page_title: str | None = None
    search_query: str | None = None
    element: str | None = None
    referrer: str | None = None
    dwell_ms: int | float | None = None
    product_id: str | None = None
    category: str | None = None
    price: float | None = None
    device: str | None = None
    user_agent: str | None = None
    user_id: str | None = None
    consent: bool | None = None
    properties: _Object | None = None


def _wire_with(properties: JsonProperties | None) -> type[_Wire]:
    """Whose properties are read, or skipped."""
    if properties is None:
        return _Wire
    field = ("properties", properties.type | None, None)
    kind: Any = msgspec.defstruct("_Wire", [field], bases=(_Wire,), gc=False)
    return cast("type[_Wire]", kind)


_PRICE = _Wire.__struct_fields__.index("price")
_DECLINED = astuple(_Wire("", 0, "", consent=False))
"""The fields of a click without consent that can't be read."""


class _Consent(msgspec.Struct, gc=False):
    """Any JSON object; of its content only the consent, in the types that tools other than ours give it."""

    consent: bool | float | str | None = None


_NO = {
    *("0", "f", "false", "n", "no", "off", "denied", "declined"),
    *("refused", "rejected", "revoked", "withdrawn", "opt_out", "opted_out"),
}
_parse_consents = msgspec.json.Decoder(_Consent | list[_Consent]).decode
_parse_consent = msgspec.json.Decoder(bool | int | float | str | None).decode
_CONSENTS = re.compile(rb'(?<!\\)"consent"\s*:\s*("[^"\\]{0,32}"|[-+.\w]{1,32})')
"""Where a JSON text has them that is too deep to be parsed, or no click and no list of clicks."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ClickDecoder:
    """Decodes clicks of one format; "auto" tells JSON and Avro apart by the first byte.

    `read`: reads records of another shape, in place of both. `registered`: schemas of a registry, whose
    records are read as the JSON that they come to; none: there is no registry. `visitor`: of clicks of our
    own shape whose visitor isn't their `visitor_id`. `extras`: what clicks keep besides; from records of
    another shape `read` has to give it.
    """

    def __init__(
        self,
        format: Format = "auto",
        max_bytes: int = DEFAULT_MAX_BYTES,
        read: Read | None = None,
        registered: RegisteredSchemas | None = None,
        visitor: OtherVisitor | None = None,
        extras: Extras | None = None,
    ) -> None:
        self._read_mapped = read
        self._visitor = visitor
        self._registered = registered
        self._json_starts = _JSON_STARTS[format] if read is None else b""
        self._avro_starts = _AVRO_STARTS[format]
        self._max_bytes = max_bytes
        self._max_declined_bytes = max(_MIB, 2 * max_bytes)
        """Of a record that is asked for its consent; more than a topic of ours takes in one."""
        self._extras = extras
        self._properties = None if extras is None else JsonProperties(extras.properties)
        self._parse_json = msgspec.json.Decoder(_wire_with(self._properties)).decode
        self._paths = Paths()
        self._queries = Memo(search_query, _QUERIES_KEPT, None)
        self._hosts = Memo(host_of, _HOSTS_KEPT, None)
        self._labels = Memo(label, _LABELS_KEPT, None)
        self._crawlers = Memo(is_crawler, _USER_AGENTS_KEPT, False)

    def decode(self, value: bytes | None, arrival: int | None, fallback_id: str) -> Arrived | None:
        """The click, or None for what is filtered; raises Rejected, and UnknownSchema.

        `arrival` is when the click first arrived, ms UTC, None where nobody noted it: then `sent_at` corrects
        nothing. `fallback_id` stands in for a missing event_id; it may be empty, for the caller to fill in.
        """
        (
            visitor_id,
            timestamp,
            event_type,
            event_id,
            sent_at,
            page_type,
            page_url,
            page_title,
            query,
            element,
            referrer,
            dwell_ms,
            product_id,
            category,
            price,
            device,
            user_agent,
            user_id,
            consent,
            properties,
        ) = self._read(value)
        if consent is False:
            return None
        if event_type is None:
            return self._dwell(visitor_id, timestamp, sent_at, arrival, page_url, dwell_ms)
        at = _event_time(timestamp, sent_at, arrival)
        if not visitor_id:
            raise Rejected("validate", "empty:visitor_id")
        event_id = event_id or fallback_id
        user_id = user_id or None
        _check_size("visitor_id", visitor_id)
        _check_size("event_id", event_id)
        _check_size("user_id", user_id)
        labels = self._labels
        event_label = labels.of(event_type)
        if not event_label:
            rule = "empty" if len(event_type) <= MAX_SCANNED else "too_long"
            raise Rejected("validate", f"{rule}:event_type")
        if product_id is not None:
            product_id = cut(product_id, MAX_PRODUCT_BYTES) or None
        click = Click.__new__(Click)  # compiled, this takes a third of the time of a call with 13 arguments
        click.timestamp = at
        click.event_id = event_id
        click.event_type = event_label
        click.page_type = labels.of(page_type)
        click.path = self._paths.of(page_url)
        click.dwell_ms = _dwell_ms(dwell_ms)
        click.search_query = self._queries.of(query)
        click.element = labels.of(element)
        click.category = labels.of(category)
        click.product_id = product_id
        click.price = price
        click.device = labels.of(device)
        click.referrer = self._hosts.of(before_query(referrer))
        click.extras = None if self._extras is None else self._extras.of(page_title, page_url, properties)
        arrived = Arrived.__new__(Arrived)
        arrived.visitor_id = visitor_id
        arrived.user_id = user_id
        arrived.crawler = self._crawlers.of(user_agent)
        arrived.is_click = True
        arrived.click = click
        return arrived

    def _dwell(
        self, visitor_id: str, timestamp: Any, sent_at: Any, arrival: int | None, page_url: Any, dwell_ms: Any
    ) -> Arrived | None:
        """What is no click and tells how long a page was read; None if it can't be read."""
        try:
            at = _event_time(timestamp, sent_at, arrival)
            _check_size("visitor_id", visitor_id)
        except Rejected:
            return None
        if not visitor_id:
            return None
        dwell = _dwell_ms(dwell_ms)
        return Arrived(
            visitor_id, None, False, False, Click(at, "", "", None, self._paths.of(page_url), dwell)
        )

    def _read(self, value: bytes | None) -> tuple[Any, ...]:
        """The fields of click.avsc, in its order. Of a rejected click without consent: `_DECLINED`."""
        try:
            return self._read_fields(value)
        except Rejected:
            if value and len(value) <= self._max_declined_bytes and _declines(value):
                return _DECLINED
            raise

    def _read_fields(self, value: bytes | None) -> tuple[Any, ...]:
        if not value or len(value) > self._max_bytes:
            raise _bad_size(value)
        if self._registered is not None and value[0] <= _LAST_MAGIC:
            return self._read_registered(value)
        if value[0] not in self._json_starts:
            return self._read_avro(value) if self._read_mapped is None else self._read_other(value)
        return self._read_json(value)

    def _read_json(self, value: bytes) -> tuple[Any, ...]:
        if is_too_deep(value):
            raise Rejected("decode", "nested_too_deep")
        try:
            wire = self._parse_json(value)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            wire = self._read_mended(value, error)
            value = with_whole_characters(value)
            if self._visitor is not None and REPLACEMENT in self._visitor.in_json(value):
                raise _bad_json(error) from None
        fields = astuple(wire)
        if self._visitor is not None:
            fields = (self._visitor.in_json(value), *fields[1:])
        if self._properties is not None:
            fields = (*fields[:-1], self._properties.read(fields[-1]))
        return fields

    def _read_mended(self, value: bytes, error: Exception) -> _Wire:
        """Once more, with whole characters in place of halves; but for ids, which two could share then."""
        whole = with_whole_characters(value)
        if isinstance(error, msgspec.ValidationError) or whole == value:
            raise _bad_json(error) from None
        try:
            wire = self._parse_json(whole)
        except (msgspec.DecodeError, UnicodeDecodeError) as later:
            raise _bad_json(later) from None
        if any(REPLACEMENT in (getattr(wire, name) or "") for name in _IDS):
            raise _bad_json(error) from None
        return wire

    def _read_other(self, value: bytes) -> tuple[Any, ...]:
        if is_too_deep(value):
            raise Rejected("decode", "nested_too_deep")
        read = self._read_mapped
        fields = read(value) if read is not None else None
        return _DECLINED if fields is None else fields

    def _read_registered(self, value: bytes) -> tuple[Any, ...]:
        """As `_read`; raises UnknownSchema too."""
        schemas, is_mapped = self._registered, self._read_mapped is not None
        assert schemas is not None
        if not is_mapped and codec.is_own(value):
            return self._read_own(value)
        try:
            schema, body = schemas.read(value)
            if schema.own is not None and not is_mapped:
                return self._read_own(schema.own + body)
            text = schema.text(body)
        except codec.CodecError as error:
            raise Rejected("decode", error.reason) from None
        try:
            return self._read_other(text) if is_mapped else self._read_json(text)
        except Rejected:
            if _declines(text):
                return _DECLINED
            raise

    def _read_avro(self, value: bytes) -> tuple[Any, ...]:
        if value[0] not in self._avro_starts:
            raise Rejected("decode", "unsupported_magic_byte" if value[0] == 1 else "unknown_format")
        return self._read_own(value)

    def _read_own(self, value: bytes) -> tuple[Any, ...]:
        """A click in Avro under our own id."""
        try:
            name, values = codec.decode_values(value)
        except codec.CodecError as error:
            raise Rejected("decode", error.reason) from None
        if name != "click":
            raise Rejected("decode", "unexpected_schema")
        price = values[_PRICE]
        if price is not None and not isfinite(price):
            values[_PRICE] = None
        if self._visitor is not None:
            values[0] = self._visitor.in_fields(values)
        return tuple(values)


def with_event_id(click: Click, event_id: str) -> Click:
    """The click under another event_id."""
    return Click(
        click.timestamp,
        event_id,
        click.event_type,
        click.page_type,
        click.path,
        click.dwell_ms,
        click.search_query,
        click.element,
        click.category,
        click.product_id,
        click.price,
        click.device,
        click.referrer,
        click.extras,
    )


def _declines(value: bytes) -> bool:
    """Whether this is JSON that says no to being analysed; where it isn't one click, whether a part does."""
    if is_too_deep(value):
        return _says_no_somewhere(value)
    try:
        found = _parse_consents(with_whole_characters(value.removeprefix(_BYTE_ORDER_MARK)))
    except msgspec.ValidationError:
        return _says_no_somewhere(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return any(says_no(click.consent) for click in (found if isinstance(found, list) else [found]))


def _says_no_somewhere(value: bytes) -> bool:
    for consent in _CONSENTS.findall(value):
        try:
            if says_no(_parse_consent(consent)):
                return True
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    return False


def says_no(consent: object) -> bool:
    """Whether a consent is refused, in whatever type tools give it."""
    return consent.strip().lower() in _NO if isinstance(consent, str) else consent == 0


def _bad_size(value: bytes | None) -> Rejected:
    if value is None:
        return Rejected("decode", "null_value")
    return Rejected("decode", "too_large" if value else "empty_value")


def _bad_json(error: Exception) -> Rejected:
    if isinstance(error, msgspec.ValidationError):
        return _broken_contract(str(error))
    return Rejected("decode", "invalid_utf8" if isinstance(error, UnicodeDecodeError) else "invalid_json")


def _broken_contract(message: str) -> Rejected:
    """The rule and the field out of the parser's message, which names types and fields but no values."""
    found = _FIELD_IN_ERROR.search(message, message.find("`$.") if "`$." in message else 0)
    field = found[1] if found else ""
    if field not in _Wire.__struct_fields__:
        return Rejected("decode", "not_an_object")
    if message.startswith("Object missing") or "got `null`" in message:
        return Rejected("validate", f"missing_field:{field}")
    if "out of range" in message:
        return Rejected("validate", f"out_of_range:{field}")
    return Rejected("validate", f"invalid_time:{field}" if "RFC3339" in message else f"wrong_type:{field}")


def _event_time(timestamp: Any, sent_at: Any, arrival: int | None) -> int:
    """Corrected by what the device's clock said when it sent the click, if that and the arrival are known.

    A click that was sent long before it arrived (a backfill, an outage) isn't moved to its arrival.
    """
    at = _to_ms(timestamp, "timestamp")
    if sent_at is not None:
        sent_at = _to_ms(sent_at, "sent_at")
        if arrival is not None and (arrival - sent_at <= MAX_CLOCK_LAG_MS or sent_at < _NEVER_SET_BEFORE_MS):
            at = arrival - (sent_at - at)
    if not _MIN_INT64 <= at <= _MAX_INT64:
        raise Rejected("validate", "out_of_range:timestamp")
    return at


def _to_ms(value: float | dt.datetime, field: str) -> int:
    """ms UTC. JSON has one kind of number, so 5.0 is 5; a fraction of a ms is refused in a number, dropped
    in a text. A text without an offset is refused: whose time zone it is in can't be known."""
    if isinstance(value, int):
        return value
    if isinstance(value, dt.datetime):
        if value.tzinfo is None:
            raise Rejected("validate", f"missing_offset:{field}")
        return (value - _EPOCH) // _ONE_MS
    if value != value // 1:
        raise Rejected("validate", f"wrong_type:{field}")
    return int(value)


def _dwell_ms(value: float | None) -> int | None:
    return int(value) if value is not None and 0 <= value <= MAX_DWELL_MS else None


def _check_size(field: str, value: str | None) -> None:
    if value is not None and len(value) > _SURELY_SHORT and len(value.encode()) > MAX_ID_BYTES:
        raise Rejected("validate", f"too_long:{field}")


def is_too_deep(value: bytes) -> bool:
    """Whether a text is nested deeper than a record may be."""
    return len(value) >= _DEEP_FROM_BYTES and _is_deep(value)


def _is_deep(value: bytes) -> bool:
    if openings(value) <= MAX_DEPTH:
        return False
    depth = 0
    for byte in _STRING.sub(b"", value).translate(None, _NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False
