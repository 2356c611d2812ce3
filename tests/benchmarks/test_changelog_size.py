"""What the changelog's benchmark counts."""

from __future__ import annotations

from benchmarks.changelog import PER_COMMIT, Log
from benchmarks.core_state import Feed
from streamer.worker.changelog import STATE_VERSION, SessionSnapshots, encode
from streamer.worker.changelog_groups import REWRITE_RATIO


def test_the_changelog_holds_all_open_sessions_and_only_so_many_old_images() -> None:
    log = Log()
    feed = Feed(2000, log.commit, PER_COMMIT)
    before = log.images
    feed.take_in(20_000)
    sessionizer = feed.partition.sessionizer
    sessions = sessionizer.sessions_of(dict.fromkeys(sessionizer.visitors()))
    latest = len(encode(SessionSnapshots(STATE_VERSION, 1, sessions)))
    assert latest < log.needed < (REWRITE_RATIO + 0.2) * latest < log.size
    assert log.images - before > 20_000
