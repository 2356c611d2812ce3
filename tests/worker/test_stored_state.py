"""State that earlier workers stored is read: `stored_state/` has what each version wrote of the same clicks.

Four visitors, one with two sessions, one a crawler, one with a user; ids that are UUIDs, texts, and missing.
From version 2 on with provisional records, from version 4 on with a fifth visitor who logged out and came
again, version 5 with extras, version 6 with a session that is held. The `.jsonl` are the sessions that the
version itself then closed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from streamer.core import rules
from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Outcome, Sessionizer
from streamer.core.stored_state import state_decoder
from streamer.pipeline.counters import ClickCounters
from streamer.schemas.click import Click, to_document
from streamer.worker.changelog import STATE_VERSION, Marker, SessionSnapshots, StateTopics, decode, encode

STORED = Path(__file__).parent / "stored_state"
VERSIONS = pytest.mark.parametrize("version", [1, 2, 3, 4, 5, 6])
RULES_NUMBER = {1: 1, 2: 1, 3: 1, 4: 2, 5: 2, 6: 2}
"""Of the core that wrote each version; it is in the ids of its sessions."""


def stored_images(version: int) -> SessionSnapshots:
    images = decode((STORED / f"version-{version}.images").read_bytes())
    assert isinstance(images, SessionSnapshots)
    return images


def stored_marker(version: int) -> Marker:
    marker = decode((STORED / f"version-{version}.marker").read_bytes())
    assert isinstance(marker, Marker)
    return marker


@VERSIONS
def test_open_sessions_of_every_version_close_as_they_did_then(
    version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "CORE_RULES_NUMBER", RULES_NUMBER[version])
    clock, sessions = stored_marker(version).clock, stored_images(version).sessions
    closed = Sessionizer(SessionRules(), clock=clock, sessions=sessions).drain()
    lines = (STORED / f"version-{version}.jsonl").read_bytes().splitlines()
    expected = [msgspec.json.decode(line) for line in lines]
    assert [msgspec.json.decode(msgspec.json.encode(to_document(each))) for each in closed] == expected


@VERSIONS
def test_markers_of_every_version_are_read(version: int) -> None:
    marker = stored_marker(version)
    assert (marker.position, marker.epoch, marker.commit_number, marker.gone) == (9, 3, 7, ["eve"])
    assert marker.counters == ClickCounters(received=9, dead_lettered=1, duplicates=1)
    assert marker.clock.raised_at == marker.clock.watermark + 120_000 == 1_763_512_300_000
    assert (marker.clock.idle_until, marker.dead_letters.counts) == (0, ())
    assert marker.erasures == (0 if version == 1 else 2)
    assert marker.topics == StateTopics()


def test_clicks_of_a_session_that_had_closed_are_known() -> None:
    core = Sessionizer(SessionRules(), clock=stored_marker(4).clock, sessions=stored_images(4).sessions)
    (again,) = core.open_sessions("fay")
    first = Click(again.started_at - 2000, "fay-0", "page_view")
    assert again.beside_closed
    assert core.add("fay", first, 200) is Outcome.DUPLICATE
    assert core.add("dan", first, 201) is Outcome.JOINED


def test_a_session_that_was_held_is_revised() -> None:
    rules = SessionRules(revise_within_ms=3_600_000)
    core = Sessionizer(rules, clock=stored_marker(6).clock, sessions=stored_images(6).sessions)
    (held,) = [window for window in core.stored_sessions() if window.is_held]
    core.add("gus", Click(held.started_at + 1, "gus-2", "page_view"), 200)
    (revision,) = core.close_due(9)
    assert (revision.session_id, revision.event_count) == (held.published, 3)
    assert (revision.revision, revision.close_reason) == (1, "gap")


def test_a_marker_that_says_how_clicks_were_read_is_read_by_a_worker_that_does_not_know_it() -> None:
    stored = (STORED / f"version-{STATE_VERSION}-reading.marker").read_bytes()
    marker = decode(stored)
    assert isinstance(marker, Marker)
    assert (marker.topics.arrival, marker.topics.source) == ("log_append_time", "segment:0123abcd")
    known = [("clicks", str), ("clicks_id", str), ("outputs", tuple[str, ...])]
    topics = msgspec.defstruct("Topics", known, array_like=True)
    fields = [
        (field.name, topics if field.name == "topics" else field.type)
        for field in msgspec.structs.fields(Marker)
    ]
    before = msgspec.defstruct("Before", fields, array_like=True, tag="marker")
    assert state_decoder(before).decode(stored).topics.outputs == marker.topics.outputs


def test_what_the_current_version_wrote_is_written_again_byte_for_byte() -> None:
    for name in (f"version-{STATE_VERSION}.images", f"version-{STATE_VERSION}-reading.marker"):
        stored = (STORED / name).read_bytes()
        assert encode(decode(stored)) == stored


@pytest.mark.parametrize("newest", ["topics", "processor"])
def test_a_marker_with_a_new_field_is_read_by_a_worker_that_does_not_know_it(newest: str) -> None:
    stored = (STORED / f"version-{STATE_VERSION}-{newest}.marker").read_bytes()
    marker = decode(stored)
    assert isinstance(marker, Marker)
    assert marker.topics == StateTopics("clicks", "bNmYAGYESpWIjVnHZpw2Hg", ("intents", "visitors"))
    assert marker.processor == ("x86_64 avx512" if newest == "processor" else "")
    fields = [(field.name, field.type) for field in msgspec.structs.fields(Marker)]
    known = fields[: [name for name, _ in fields].index(newest)]
    before = msgspec.defstruct("Before", known, array_like=True, tag="marker")
    assert state_decoder(before).decode(stored).position == 9
