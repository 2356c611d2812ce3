"""Reading state back: whole groups count, anything else is refused."""

from __future__ import annotations

from dataclasses import astuple
from itertools import chain

import msgspec
import pytest

from streamer.core.session import OpenSession, open_session
from streamer.core.stored_state import encode_state
from streamer.core.watermark import PartitionClock
from streamer.pipeline.counters import ClickCounters
from streamer.schemas.click import Click
from streamer.worker import changelog_groups
from streamer.worker.changelog import (
    STATE_VERSION,
    ChangelogError,
    Marker,
    SessionSnapshots,
    encode,
)
from streamer.worker.changelog_groups import in_chunks
from streamer.worker.recovery import Recovery


def window(visitor: str, at: int) -> OpenSession:
    return open_session(visitor, Click(at, f"e{at}", "page_view"), b"%08d" % at, at, at)


def images(commit: int, *sessions: OpenSession) -> bytes:
    return encode(SessionSnapshots(STATE_VERSION, commit, list(sessions)))


def marker(commit: int, chunks: int, gone: tuple[str, ...] = (), epoch: int = 1, position: int = 0) -> bytes:
    clock = PartitionClock(5, 6, 7)
    return encode(
        Marker(
            STATE_VERSION,
            epoch,
            commit,
            chunks,
            position,
            4,
            "rules",
            clock,
            ClickCounters(received=9),
            list(gone),
        )
    )


def recovered(*values: bytes) -> Recovery:
    recovery = Recovery()
    for offset, value in enumerate(values):
        recovery.feed(offset, value)
    recovery.finish()
    return recovery


def test_the_latest_image_of_a_visitor_counts() -> None:
    recovery = recovered(
        images(1, window("a", 1), window("b", 1)), marker(1, 1), images(2, window("a", 2)), marker(2, 1)
    )
    assert sorted((w.visitor_id, w.started_at) for w in recovery.sessions) == [("a", 2), ("b", 1)]


def test_an_image_replaces_all_sessions_of_its_visitor() -> None:
    recovery = recovered(
        images(1, window("a", 1), window("a", 2)), marker(1, 1), images(2, window("a", 3)), marker(2, 1)
    )
    assert [w.started_at for w in recovery.sessions] == [3]


def test_an_image_of_two_sessions_takes_the_place_of_one() -> None:
    one_then_two = [
        images(1, window("a", 1)),
        marker(1, 1),
        images(2, window("a", 2), window("a", 3)),
        marker(2, 1),
    ]
    assert [w.started_at for w in recovered(*one_then_two).sessions] == [2, 3]
    two_then_one = recovered(*one_then_two, images(3, window("a", 4)), marker(3, 1))
    assert [w.started_at for w in two_then_one.sessions] == [4]
    gone = recovered(*one_then_two, marker(3, 0, ("a",)))
    assert not list(gone.sessions)


def test_a_visitor_is_named_by_one_string_however_many_images_there_are() -> None:
    commits = [(images(number, window("visitor", number)), marker(number, 1)) for number in range(1, 4)]
    recovery = recovered(*chain.from_iterable(commits))
    (only,) = recovery.sessions
    (name,) = recovery.sessions.visitors()
    assert only.visitor_id is name


def test_a_visitor_that_is_gone_has_no_session() -> None:
    assert not list(recovered(images(1, window("a", 1)), marker(1, 1), marker(2, 0, ("a",))).sessions)


def test_the_last_marker_says_position_clock_and_accounts() -> None:
    last = recovered(marker(1, 0, position=3), marker(2, 0, position=8)).marker
    assert last is not None
    assert (last.position, last.clock.watermark, last.counters.received) == (8, 6, 9)


def test_an_empty_changelog_has_no_marker() -> None:
    assert recovered().marker is None


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ((images(1, window("a", 1)),), "no marker"),
        ((images(2, window("a", 1)), marker(2, 2)), "torn"),
        ((images(1, window("a", 1)), marker(2, 1)), "torn"),
        ((marker(2, 0), marker(2, 0)), "two owners"),
        ((marker(1, 0, epoch=2), marker(2, 0, epoch=1)), "two owners"),
        ((b"\x93",), "not written by the session table"),
        ((b"",), "not written by the session table"),
        ((msgspec.msgpack.encode(["images", STATE_VERSION, 1, "x"]),), "damaged"),
    ],
)
def test_groups_that_do_not_fit_together_are_refused(values: tuple[bytes, ...], complaint: str) -> None:
    with pytest.raises(ChangelogError, match=complaint):
        recovered(*values)


def test_a_newer_state_version_is_refused_by_number() -> None:
    known = STATE_VERSION
    newer = encode(SessionSnapshots(known + 1, 1, []))
    with pytest.raises(ChangelogError, match=f"version is {known + 1}, .* reads version {known}"):
        recovered(newer)


@pytest.mark.parametrize(("version", "marker_fields"), [(1, 11), (2, 13)])
def test_sessions_of_an_older_state_version_go_on_as_any_other(version: int, marker_fields: int) -> None:
    clicks = [Click(at, f"01234567-89ab-4cde-8f01-23456789abc{at}", "page_view") for at in range(3)]
    session = open_session("a", clicks[0], b"%08d" % 0, 0, 5)
    session.add(clicks[1], b"%08d" % 1, 1)
    before = OpenSession.from_row(session.to_row())
    before.put(before.log, b"".join(msgspec.msgpack.encode(astuple(click)) for click in clicks[:2]))
    assert len(before.retained) > len(session.retained)
    (restored,) = recovered(
        encode_state(["images", version, 1, [before]]),
        msgspec.msgpack.encode(["marker", version, *msgspec.msgpack.decode(marker(1, 1))[2:marker_fields]]),
    ).sessions
    for each in session, restored:
        each.add(clicks[2], b"%08d" % 2, 2)
    assert restored.close("gap", 9, "rules") == session.close("gap", 9, "rules")
    assert restored.clicks() == clicks


@pytest.mark.parametrize(("chunk_bytes", "expected"), [(10**6, [6]), (1, [2, 1, 2, 1]), (70, [2, 3, 1])])
def test_a_chunk_holds_all_sessions_of_its_visitors(
    monkeypatch: pytest.MonkeyPatch, chunk_bytes: int, expected: list[int]
) -> None:
    monkeypatch.setattr(changelog_groups, "CHUNK_BYTES", chunk_bytes)
    windows = [window(visitor, at) for visitor, at in zip("aabccd", [1, 9, 1, 1, 9, 1], strict=True)]
    chunks = in_chunks(windows)
    assert [len(chunk) for chunk in chunks] == expected
    images = [encode(SessionSnapshots(STATE_VERSION, 1, chunk)) for chunk in chunks]
    assert [w.visitor_id for w in recovered(*images, marker(1, len(images))).sessions] == [*"bdaacc"]
    assert not in_chunks([])
