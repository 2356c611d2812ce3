"""What records of the clicks topic look like: our own shape, a vendor's profile, or a mapping file.

A profile is a mapping file that is shipped, in this folder; `clicks.source` names one or another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from importlib import resources
from pathlib import Path

from streamer.errors import UsageError
from streamer.pipeline.cloud_events import structured
from streamer.pipeline.decode import ClickDecoder, Format, Rejected
from streamer.pipeline.extras import Extras
from streamer.pipeline.mapping.path import parse_path
from streamer.pipeline.mapping.plan import CompiledMapping
from streamer.pipeline.mapping.spec import MappingError, read_mapping, with_visitor
from streamer.pipeline.mapping.visitor import VisitorAt
from streamer.pipeline.partition import Whole
from streamer.pipeline.registered import RegisteredSchemas, with_prefix
from streamer.schemas.extras import PAGE_TITLE
from streamer.settings import NATIVE, ClickSettings

PROFILES = ("cloudevents", "ga4", "matomo", "posthog", "segment", "snowplow")
VisitorOf = Callable[[bytes], bytes | None]
"""Whose a record is, as its key has it; None if that can't be read."""
TimeOf = Callable[[bytes], int | None]
"""Event time of a record in ms UTC; None if that can't be read."""


def mapping_of(source: str, visitor_from: str | None = None, keep: Collection[str] = ()) -> CompiledMapping:
    """A profile by its name, or a mapping file by its path; `visitor_from`: with another field as visitor;
    `keep`: as `clicks.keep`.

    Raises UsageError.
    """
    try:
        spec = read_mapping(text_of(source), Path(source).stem)
        if visitor_from is not None:
            spec = with_visitor(spec, visitor_from)
        return CompiledMapping(spec, extras=[name for name in keep if name != PAGE_TITLE])
    except MappingError as error:
        raise UsageError(f"{source}: {error}") from None


def source_version(clicks: ClickSettings) -> str:
    """Differs between shapes of clicks, and after a change of a mapping file; empty for our own shape."""
    visitor = "" if clicks.visitor_from is None else f":{clicks.visitor_from}"
    if clicks.keep:
        visitor += f":keep={','.join(sorted(clicks.keep))}"
    if clicks.source == NATIVE:
        return visitor
    digest = hashlib.sha256(text_of(clicks.source).encode()).hexdigest()
    return f"{Path(clicks.source).stem}:{digest[:8]}{visitor}"


def click_decoder(
    clicks: ClickSettings, format: Format | None = None, registered: RegisteredSchemas | None = None
) -> ClickDecoder:
    """As the settings say; `format`: in place of theirs, for clicks of our own shape. Raises UsageError."""
    format = format or clicks.format
    extras = Extras(clicks.keep) if clicks.keep else None
    if clicks.source != NATIVE:
        read = mapping_of(clicks.source, clicks.visitor_from, clicks.keep).read
        return ClickDecoder(format, clicks.max_bytes, read, registered, extras=extras)
    visitor = None if clicks.visitor_from is None else VisitorAt(parse_path(clicks.visitor_from))
    return ClickDecoder(format, clicks.max_bytes, None, registered, visitor, extras)


def whole_value(clicks: ClickSettings, registered: RegisteredSchemas | None) -> Whole | None:
    """What puts a record's value together where its headers have a part of it; None: they have none."""
    cloud = clicks.source == "cloudevents"
    if registered is None:
        return structured if cloud else None
    if not cloud:
        return with_prefix
    return lambda value, headers: structured(with_prefix(value, headers), headers)


def visitor_reader(clicks: ClickSettings, native: VisitorOf) -> VisitorOf:
    """As the settings say: `native` where clicks have our own shape. Raises UsageError."""
    if clicks.source == NATIVE:
        return native if clicks.visitor_from is None else _reader_at(clicks.visitor_from)
    visitor_of = mapping_of(clicks.source, clicks.visitor_from).visitor_of

    def read(value: bytes) -> bytes | None:
        visitor = visitor_of(value)
        return visitor.encode() if visitor else None

    return read


def time_reader(clicks: ClickSettings, native: TimeOf) -> TimeOf:
    """As the settings say: `native` where clicks have our own shape. Raises UsageError."""
    return native if clicks.source == NATIVE else mapping_of(clicks.source).time_of


def _reader_at(path: str) -> VisitorOf:
    visitor = VisitorAt(parse_path(path))

    def read(value: bytes) -> bytes | None:
        try:
            return visitor.in_json(value).encode()
        except Rejected:
            return None

    return read


def text_of(source: str) -> str:
    """The mapping file of a source that has one. Raises UsageError."""
    if source in PROFILES:
        return (resources.files(__name__) / f"{source}.toml").read_text(encoding="utf-8")
    try:
        return Path(source).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"clicks.source = {source!r}: is neither a profile nor a file; expected {NATIVE}, "
            f"{', '.join(PROFILES)}, or the path of a mapping file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        name = type(error).__name__
        raise UsageError(f"{source}: cannot be read ({name}); expected a mapping file") from None
