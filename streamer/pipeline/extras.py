"""What a click keeps beyond its own fields: what the setting `clicks.keep` names, and nothing else.

Rules: a text is tidied, scrubbed and cut as labels are; a whole number is scrubbed as its digits, any other
number has six digits; what is neither a text, a number, true nor false counts as missing. No input raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import msgspec

from streamer.pipeline.normalize import FirstParameter, Memo, label
from streamer.schemas.extras import CAMPAIGN, PAGE_TITLE, PROPERTY

_TEXTS_KEPT = 32_768
_MOST = 10**15
"""A larger number is nobody's count or amount."""
_read_scalar = msgspec.json.Decoder(str | bool | int | float | None).decode


class Extras:
    """Of all clicks that one decoder reads."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are such as `schemas.extras.is_extra` takes."""
        self.names = tuple(sorted(names))
        self._own_names = [(name, own_name(name)) for name in self.names if name != PAGE_TITLE]
        self._parameters = {name: FirstParameter((name,)).of for name in self.names if name in CAMPAIGN}
        self._texts = Memo(label, _TEXTS_KEPT, None)

    def of(
        self, title: str | None, url: str | None, properties: Mapping[str, Any] | None
    ) -> dict[str, str] | None:
        """What is kept; the campaign's parameters from the address where they are no properties."""
        found: dict[str, str | None] = {}
        if PAGE_TITLE in self.names:
            found[PAGE_TITLE] = self._texts.of(title)
        tagged = url is not None and "utm_" in url
        for name, own in self._own_names:
            value = self._text(properties.get(own)) if properties else None
            if value is None and tagged and name in self._parameters:
                value = self._texts.of(self._parameters[name](url))
            found[name] = value
        kept = {name: value for name, value in found.items() if value is not None}
        return kept or None

    def _text(self, value: Any) -> str | None:
        if isinstance(value, float):
            if not isfinite(value):
                return None
            if not value.is_integer() or abs(value) > _MOST:
                return f"{value:.6g}"
            value = int(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            value = str(value) if abs(value) <= _MOST else None
        text: str | None = self._texts.of(value) if isinstance(value, str) else None
        return text

    @property
    def properties(self) -> list[str]:
        """Names of the properties that are looked at."""
        return [own for _, own in self._own_names]


def own_name(name: str) -> str:
    """Of a property by itself; of the campaign's parameters, which may be properties, the same name."""
    return name.removeprefix(PROPERTY)


class JsonProperties:
    """Reads some properties of a click in JSON; the others are skipped."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        fields = [(f"f{place}", msgspec.Raw, msgspec.Raw()) for place in range(len(names))]
        rename = {f"f{place}": name for place, name in enumerate(names)}
        self.type = msgspec.defstruct("Properties", fields, rename=rename, gc=False)
        """What the parser makes of them."""

    def read(self, parsed: Any) -> dict[str, Any] | None:
        """Of a `type`, or None."""
        if parsed is None:
            return None
        raw = msgspec.structs.astuple(parsed)
        return {name: _scalar(value) for name, value in zip(self._names, raw, strict=True) if value}


def _scalar(value: msgspec.Raw) -> Any:
    try:
        return _read_scalar(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
