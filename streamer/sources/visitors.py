"""Whose a click is, read for little: the visitor and the consent, where nothing else is looked at.

What is found is what the decoder finds. Wherever that isn't certain, the decoder is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from streamer.pipeline.dead_letters import Header
from streamer.pipeline.decode import Rejected, is_too_deep
from streamer.pipeline.mapping.leaves import LeafReader, Path
from streamer.pipeline.mapping.path import parse_path, walk
from streamer.pipeline.registered import PREFIX_SIZES, RegisteredSchemas
from streamer.schemas.click import MAX_ID_BYTES
from streamer.settings import NATIVE, ClickSettings
from streamer.sources import click_decoder, mapping_of, whole_value

_LAST_MAGIC = max(PREFIX_SIZES)
_SENT_AT = b'"sent_at"'


class _Whose(msgspec.Struct, gc=False):
    visitor_id: str
    consent: bool | None = None


class ClickVisitors:
    """Of records as the settings say they look. Raises UsageError for a source that can't be read."""

    def __init__(self, clicks: ClickSettings, registered: RegisteredSchemas | None) -> None:
        self._decoder = click_decoder(clicks, registered=registered)
        self._whole = whole_value(clicks, registered)
        self._max_bytes = clicks.max_bytes
        self._whose: Callable[[bytes], tuple[str, bool] | None] = _native_whose
        self._may_have_sent_at: Callable[[bytes], bool] = _has_sent_at
        if clicks.source != NATIVE:
            mapping = mapping_of(clicks.source, clicks.visitor_from)
            maps_sent_at = mapping.maps_sent_at
            self._whose = mapping.whose
            self._may_have_sent_at = lambda _: maps_sent_at
        elif clicks.visitor_from is not None:
            self._whose = _whose_at(parse_path(clicks.visitor_from))

    def of(self, value: bytes | None, headers: Sequence[Header]) -> bytes | None:
        """The visitor as a key has it; None for what is filtered: no click, or no consent.

        Raises Rejected for a record without a visitor, and UnknownSchema.
        """
        if self._whole is not None:
            value = self._whole(value, headers)
        if value and value[0] > _LAST_MAGIC and len(value) <= self._max_bytes:
            found = self._whose(value)
            if found is not None:
                visitor_id, declines = found
                key = visitor_id.encode()
                if declines and not is_too_deep(value):
                    return None
                if not declines and 0 < len(key) <= MAX_ID_BYTES:
                    return key
        arrived = self._decoder.decode(value, None, "")
        return None if arrived is None else arrived.visitor_id.encode()

    def may_have_sent_at(self, value: bytes | None) -> bool:
        """Whether a record may say when the device sent it; then the time of its first arrival counts."""
        return not value or value[0] <= _LAST_MAGIC or self._may_have_sent_at(value)


_parse = msgspec.json.Decoder(_Whose).decode


def _native_whose(value: bytes) -> tuple[str, bool] | None:
    """The visitor, and whether the click is filtered; None where only the decoder can say."""
    try:
        whose = _parse(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return whose.visitor_id, whose.consent is False


def _has_sent_at(value: bytes) -> bool:
    return _SENT_AT in value


def _whose_at(path: Path) -> Callable[[bytes], tuple[str, bool] | None]:
    """As `_native_whose`, with what stands at a path as the visitor."""
    leaves = LeafReader([path, ("consent",)])
    (number, leaf, rest), (_, consent_at, _) = leaves.place(path), leaves.place(("consent",))

    def whose(value: bytes) -> tuple[str, bool] | None:
        try:
            found = leaves.read(value)
        except Rejected:
            return None
        visitor, consent = walk(found[number][leaf], rest), found[0][consent_at]
        if type(visitor) is not str or not (consent is None or type(consent) is bool):
            return None
        return visitor, consent is False

    return whose
