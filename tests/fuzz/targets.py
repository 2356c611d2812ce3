"""Every parser of outside bytes: sound inputs to damage, and what is called with the result.

A target returns where a case ended, in a word. Whatever it raises, but for the errors it names itself, is a
crash.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from streamer.core.rules import SessionRules
from streamer.core.session import open_session
from streamer.core.watermark import PartitionClock
from streamer.errors import UsageError
from streamer.kafka.dead_letters import as_dead_letter
from streamer.kafka.lines import Lines, LinesError
from streamer.kafka.produce import visitor_key
from streamer.models import calibration, taxonomy
from streamer.models.bundle import default_bundle, read_manifest
from streamer.models.graph_check import GraphRefused, check_graph
from streamer.models.tokenizer import Tokenizer
from streamer.pipeline.counters import ClickCounters
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.erasures import erased_visitor
from streamer.pipeline.extras import Extras
from streamer.pipeline.mapping.plan import CompiledMapping
from streamer.pipeline.mapping.spec import MappingError, read_mapping
from streamer.pipeline.normalize import host_of, label, path_of, search_query
from streamer.pipeline.preview import preview
from streamer.pipeline.registered import Definition, RegisteredSchema, RegisteredSchemas, UnknownSchema
from streamer.pipeline.scrub import scrub
from streamer.replay.file_source import sessions_of_file
from streamer.schemas import codec
from streamer.settings import SettingsError, load_settings
from streamer.sources import mapping_of
from streamer.worker.changelog import STATE_VERSION, ChangelogError, Marker, SessionSnapshots, encode
from streamer.worker.recovery import Recovery
from tests.bad_clicks import GOOD, avro, click
from tests.click_fuzz import FULL, end_of
from tests.sources.events import COLUMNS, SEGMENT_PAGE, SEGMENT_TRACK, SNOWPLOW


class Target(NamedTuple):
    seeds: list[bytes]
    run: Callable[[bytes], str]


_decoder = ClickDecoder()
_keeping = ClickDecoder(extras=Extras(("page_title", "utm_source", "properties.plan", "properties.utm_term")))
_mapped = ClickDecoder(read=mapping_of("segment").read)
_mapped_rows = ClickDecoder(read=mapping_of("snowplow").read)
_ROW = "\t".join(SNOWPLOW.get(name, "") for name in COLUMNS.split()).encode()
_MAPPING = (resources.files("streamer.sources") / "segment.toml").read_bytes()
_SCRATCH = Path(tempfile.mkdtemp(prefix="fuzz-"))
_BUNDLE = default_bundle()


_NESTED: dict[str, Any] = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "visitor_id", "type": "string"},
        {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "event_type", "type": {"type": "enum", "name": "Kind", "symbols": ["click", "search"]}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {"name": "at", "type": {"type": "long", "logicalType": "local-timestamp-micros"}},
        {"name": "tags", "type": {"type": "array", "items": ["null", "string", "float"]}},
        {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"}},
    ],
}
_EVENT = b"\0\0\0\0\7\2v" + b"\x80\xe4\xba\xfe\xab\x9d\xc1\6" + b"\0\4\7\xc6\2\2\0\4\2\4ab\0\0" + bytes(16)


def _registered() -> ClickDecoder:
    schemas = RegisteredSchemas()
    schemas.add(_EVENT[:5], Definition("AVRO", json.dumps(_NESTED)))
    return ClickDecoder(registered=schemas)


_of_registry = _registered()


def _registered_click(value: bytes) -> str:
    try:
        return end_of(_of_registry, value)
    except UnknownSchema:
        return "asked for"


def _registered_schema(value: bytes) -> str:
    try:
        RegisteredSchema(Definition("AVRO", value.decode(errors="replace")))
    except codec.CodecError as error:
        return error.reason
    return "read"


def _mapping(value: bytes) -> str:
    try:
        CompiledMapping(read_mapping(value.decode(errors="replace"), "fuzz"))
    except MappingError:
        return "refused"
    return "read"


def _time(value: bytes) -> str:
    text = json.dumps(value.decode(errors="replace"))
    return end_of(_decoder, json.dumps(GOOD).encode()[:-1] + f', "timestamp": {text}}}'.encode())


def _url(value: bytes) -> str:
    text = value.decode(errors="replace")
    path, host, query, name = path_of(text), host_of(text), search_query(text), label(text)
    assert path is None or (path[0] == "/" and path.count("/") <= 3 and len(path.encode()) < 150)
    for kept in (host, query, name):
        assert kept is None or 0 < len(kept.encode()) <= 64
        assert kept is None or "4111111111111111" not in kept
    return "none" if path is None else "path"


def _scrubbing(value: bytes) -> str:
    text = value.decode(errors="replace")
    once = scrub(text)
    assert scrub(once) == once
    return "kept" if once is text else "scrubbed"


def _wire(value: bytes) -> str:
    try:
        return codec.decode(value)[0]
    except codec.CodecError as error:
        return error.reason


def _changelog(value: bytes) -> str:
    recovery = Recovery()
    try:
        recovery.feed(0, value)
        recovery.finish()
    except ChangelogError:
        return "refused"
    return "read"


def _toml(value: bytes) -> str:
    path = _SCRATCH / "streamer.toml"
    path.write_bytes(value)
    return _settings(lambda: load_settings(path, environ={}))


def _environment(value: bytes) -> str:
    pairs = (line.partition("=") for line in value.decode(errors="surrogateescape").split("\n"))
    environ = {f"STREAMER_{name}": text for name, _, text in pairs}
    return _settings(lambda: load_settings(environ=environ))


def _settings(load: Callable[[], object]) -> str:
    try:
        load()
    except SettingsError as error:
        return "refused" if "\n" not in str(error) else str(error)
    return "read"


def _of_bundle(parse: Callable[[bytes], object]) -> Callable[[bytes], str]:
    def run(value: bytes) -> str:
        try:
            parse(value)
        except (ValueError, GraphRefused):
            return "refused"
        return "read"

    return run


def _manifest(value: bytes) -> object:
    (_SCRATCH / "manifest.json").write_bytes(value)
    return read_manifest(_SCRATCH)


def _lines(value: bytes) -> str:
    path = _SCRATCH / "clicks.jsonl"
    path.write_bytes(value)
    counters: ClickCounters | None = None
    try:
        counters = sessions_of_file(path, SessionRules()).counters
    except UsageError:
        pass
    else:
        assert counters.open() == 0
    try:
        asyncio.run(_keys(path))
    except (LinesError, UsageError):
        return "damaged"
    return "read" if counters else "half read"


async def _keys(path: Path) -> None:
    with Lines(str(path)) as lines:
        async for chunk in lines:
            for line in chunk:
                visitor_key(line)


class _Record(NamedTuple):
    headers: list[tuple[str, bytes | None]]
    value: bytes | None
    partition: int = 0
    offset: int = 0
    timestamp: int = 0
    key: bytes | None = None


def _dead_letter(value: bytes) -> str:
    names = (
        "__streams.errors.partition",
        "__streams.errors.offset",
        "x-streamer-replayed",
        "x-streamer-stage",
    )
    parts = value.split(b"|")
    letter = as_dead_letter(
        _Record([("__streams.errors.exception", b"Rejected"), *zip(names, parts, strict=False)], value)
    )
    assert len(preview(value)) <= 400
    return "sourced" if letter.source else "strange"


def _erasure(value: bytes) -> str:
    return "none" if erased_visitor(value) is None else "erasure"


def _shortened(name: str) -> bytes:
    """A file of the shipped bundle with its long lists cut, so that damage hits what matters."""

    def cut(value: object) -> object:
        if isinstance(value, dict):
            return {key: cut(each) for key, each in value.items()}
        return [cut(each) for each in value[:3]] if isinstance(value, list) else value

    document = json.loads((_BUNDLE / name).read_bytes())
    if name == "manifest.json":
        document |= {"metrics": {}, "config": {}, "data": {}}
    if name == "taxonomy.json":
        parents = {intent["parent"] for intent in document["intents"][:3]}
        document["parents"] = [p for p in document["parents"] if p["id"] in parents]
    return json.dumps(cut(document)).encode()


_ARRIVED = _decoder.decode(click(), 0, "e")
assert _ARRIVED is not None
_WINDOW = open_session("v", _ARRIVED.click, b"8 bytes.", 7, 9)
_MARKER = Marker(STATE_VERSION, 1, 1, 0, 5, 4, "rules", PartitionClock(), ClickCounters(), ["gone"])
_TOML = b"""[kafka]
bootstrap_servers = "a:1"
sasl_password = "hunter2"
[session]
gap_s = 1.5
end_events = ["x"]
"""
_ENVIRONMENT = (
    b'SESSION__GAP_S=900\nTOPICS__CLICKS=a\nSESSION__END_EVENTS=["a"]\nKAFKA__SASL_PASSWORD=hunter2'
)

TARGETS: dict[str, Target] = {
    "json click": Target([json.dumps(FULL).encode(), click()], lambda v: end_of(_decoder, v)),
    "mapped click": Target(
        [json.dumps(SEGMENT_TRACK).encode(), json.dumps(SEGMENT_PAGE).encode()],
        lambda v: end_of(_mapped, v),
    ),
    "kept extras": Target(
        [
            json.dumps(
                FULL | {"page_url": "/?utm_source=a%40b", "properties": {"plan": 1.5, "utm_term": "c"}}
            ).encode()
        ],
        lambda v: end_of(_keeping, v),
    ),
    "mapped row": Target([_ROW], lambda v: end_of(_mapped_rows, v)),
    "mapping file": Target([_MAPPING], _mapping),
    "avro click": Target([avro(), codec.encode("click", FULL)], lambda v: end_of(_decoder, v)),
    "registered click": Target([_EVENT], _registered_click),
    "registered schema": Target([json.dumps(_NESTED).encode()], _registered_schema),
    "wire format": Target([avro(), codec.encode("erasure", {"visitor_id": "v"})], _wire),
    "time": Target(
        [b"2026-11-19T00:00:00Z", b"2026-11-19T00:00:00.123456789+14:00", b"1795046400000"], _time
    ),
    "address": Target(
        [
            b"https://jo@bank.example:443/a-b/%2541/x;s=1/4111111111111111?q=1#f",
            b"www.bank.example/loans/12345/rates",
            b"/a//b/../c/" + b"%34111111111111111",
        ],
        _url,
    ),
    "scrubbing": Target(
        [
            b"4111 1111 1111 1111 jo@mail.example DE89 3704 0044 0532 0130 00 +49 171 2345678 123-45-6789",
            b"1,200.50 eur 2024-02-29 01/02/2024 10 - 20 %40",
        ],
        _scrubbing,
    ),
    "settings file": Target([_TOML], _toml),
    "environment": Target([_ENVIRONMENT], _environment),
    "changelog": Target([encode(SessionSnapshots(STATE_VERSION, 1, [_WINDOW])), encode(_MARKER)], _changelog),
    "manifest": Target([_shortened("manifest.json")], _of_bundle(_manifest)),
    "tokenizer": Target([_shortened("tokenizer.json")], _of_bundle(Tokenizer.from_json)),
    "taxonomy": Target([_shortened("taxonomy.json")], _of_bundle(taxonomy.from_json)),
    "calibration": Target([(_BUNDLE / "calibration.json").read_bytes()], _of_bundle(calibration.from_json)),
    "graph": Target([(_BUNDLE / "classifier.onnx").read_bytes()], _of_bundle(lambda v: check_graph(v, 23))),
    "lines": Target(
        [json.dumps(GOOD).encode() + b"\n" + b"{}\n", gzip.compress(b'{"visitor_id":"v"}\n' * 9)], _lines
    ),
    "dead letter": Target([b"1|2|3|decode", json.dumps(FULL).encode(), avro()], _dead_letter),
    "erasure": Target([codec.encode("erasure", {"visitor_id": "v", "requested_at": 1})], _erasure),
}
