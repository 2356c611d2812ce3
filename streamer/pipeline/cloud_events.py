"""CloudEvents in binary mode, whose attributes are a record's headers and whose data is its value.

After https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md, 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import orjson

from streamer.pipeline.dead_letters import Header

_PREFIX = "ce_"
_REQUIRED = "specversion"
_STRUCTURED = b"application/cloudevents"
_check_json = msgspec.json.Decoder(msgspec.Raw).decode


def structured(value: bytes | None, headers: Sequence[Header]) -> bytes | None:
    """The value, or the event in structured mode if the record has one in binary mode whose data is JSON."""
    if not value:
        return value
    attributes: dict[str, object] = {}
    try:
        for name, content in headers:
            if name.startswith(_PREFIX) and content:
                attributes[name.removeprefix(_PREFIX)] = content.decode()
            elif name == "content-type" and content and content.lower().startswith(_STRUCTURED):
                return value  # such a record may have the attributes as headers too
        if _REQUIRED not in attributes:
            return value
        _check_json(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return value
    attributes["data"] = orjson.Fragment(value)
    return orjson.dumps(attributes)
