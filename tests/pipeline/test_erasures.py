"""What an erasure takes from a partition: state, what has piled up, and clicks that come up to its moment."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.rules import SessionRules
from streamer.core.sessionizer import Sessionizer
from streamer.pipeline.decode import ClickDecoder
from streamer.pipeline.erasures import Erased, Erasures, erased_by, erased_visitor
from streamer.pipeline.partition import Partition, PartitionState, PendingOutputs
from streamer.schemas import codec
from streamer.schemas.click import Session
from streamer.worker.erasure_feed import take_in_erasures
from tests.bad_clicks import ARRIVAL_MS
from tests.pipeline.test_partition import Arrived, click

GAP_MS = 1_800_000


def new_partition(erasures: Erasures | None = None, revise_within_ms: int = 0) -> Partition:
    rules = SessionRules(out_of_orderness_ms=0, revise_within_ms=revise_within_ms)
    decode = ClickDecoder("auto", 262_144).decode
    return Partition("clicks", 0, Sessionizer(rules), decode, PartitionState(erasures=erasures))


def test_open_sessions_go_and_their_clicks_count_as_filtered() -> None:
    partition = new_partition()
    partition.process([Arrived(0, click("v", ARRIVAL_MS)), Arrived(1, click("w", ARRIVAL_MS))])
    partition.erase("v", ARRIVAL_MS, 0)
    assert list(partition.sessionizer.visitors()) == ["w"]
    assert partition.sessionizer.take_changed()[1] == ["v"]
    assert (partition.counters.filtered, partition.counters.open()) == (1, 1)
    assert partition.take() == PendingOutputs([], [], [], ["v"])


def test_a_click_at_the_moment_goes_and_the_one_after_it_stays() -> None:
    partition = new_partition()
    partition.erase("v", ARRIVAL_MS + 5, 0)
    for offset, after in enumerate((0, 5, 6)):
        partition.process([Arrived(offset, click("v", ARRIVAL_MS, f"e{after}"), ARRIVAL_MS + after)])
    assert (partition.counters.filtered, partition.counters.open()) == (2, 1)


def test_other_visitors_are_not_touched() -> None:
    partition = new_partition()
    partition.erase("v", ARRIVAL_MS + 9, 0)
    partition.process([Arrived(0, click("vv", ARRIVAL_MS)), Arrived(1, click("V", ARRIVAL_MS))])
    assert partition.counters.open() == 2


def test_what_has_piled_up_and_is_not_yet_written_goes_too() -> None:
    partition = new_partition()
    after = ARRIVAL_MS + 2 * GAP_MS
    partition.process(
        [
            Arrived(0, click("v", ARRIVAL_MS)),
            Arrived(1, click("w", after), after),
            Arrived(2, click("v", ARRIVAL_MS, "late"), after, b"v"),
            Arrived(3, b"garbage", after, b"v"),
            Arrived(4, b"garbage", after, b"w"),
        ]
    )
    partition.erase("v", after, 0)
    taken = partition.take()
    assert (taken.sessions, taken.late, taken.erased) == ([], [], ["v"])
    assert [each.key for each in taken.dead] == [b"w"]
    counters = partition.counters
    assert (counters.received, counters.filtered, counters.closed, counters.sessions) == (5, 3, 0, 0)
    assert counters.open() == 1


def test_a_session_that_began_after_the_moment_stays() -> None:
    partition = new_partition()
    partition.process([Arrived(0, click("v", ARRIVAL_MS), ARRIVAL_MS + 10)])
    partition.erase("v", ARRIVAL_MS + 9, 0)
    assert (partition.counters.filtered, partition.counters.open()) == (0, 1)


def test_a_session_that_is_due_but_not_closed_yet_goes() -> None:
    partition = new_partition()
    partition.process([Arrived(n, click(f"v{n}", ARRIVAL_MS)) for n in range(2100)])
    after = ARRIVAL_MS + 2 * GAP_MS
    partition.process([Arrived(2100, click("w", after), after)])
    left = [v for v in partition.sessionizer.visitors() if v != "w"]
    assert left, "all were closed at once"
    partition.erase(left[0], after, 0)
    closed = partition.take().sessions
    partition.resume_closing()
    closed += partition.take().sessions
    assert len(closed) == 2099
    assert left[0] not in {session.visitor_id for session in closed}
    assert (partition.counters.filtered, partition.counters.closed) == (1, 2099)
    assert partition.counters.open() == partition.sessionizer.open_events


def test_bytes_that_can_not_be_read_go_by_their_key() -> None:
    partition = new_partition()
    partition.erase("v", ARRIVAL_MS, 0)
    partition.process(
        [Arrived(0, b"\xff", key=b"v"), Arrived(1, b"\xff", key=b"\xff"), Arrived(2, b"", key=None)]
    )
    assert (partition.counters.filtered, partition.counters.dead_lettered) == (1, 2)


def test_an_erasure_is_forgotten_when_the_arrival_clock_is_beyond_it() -> None:
    erasures = Erasures()
    erasures.note("a", 100, 0)
    erasures.note("b", 200, 1)
    erasures.note("a", 300, 2)
    assert (erasures.settle(100), erasures.position) == (0, 3)
    assert erasures.settle(101) == 1
    assert erasures.covers("a", 250)
    assert (erasures.settle(301), erasures.until) == (3, {})


def test_the_later_of_two_moments_counts_in_whichever_order_they_come() -> None:
    erasures = Erasures()
    erasures.note("a", 300, 0)
    erasures.note("a", 200, 1)
    assert erasures.covers("a", 250)


def test_only_an_erasure_in_wire_format_is_one() -> None:
    good = codec.encode("erasure", {"visitor_id": "v"})
    assert erased_visitor(good) == "v"
    empty = codec.encode("erasure", {"visitor_id": ""})
    click_bytes = codec.encode("click", {"visitor_id": "v", "timestamp": 1, "event_type": "x"})
    longer = codec.encode("erasure", {"visitor_id": "v" * 257})
    for value in (None, b"", b"v", good[:-1], good + b"\0", empty, longer, click_bytes):
        assert erased_visitor(value) is None
        assert erased_by(value) is None


def test_an_erasure_names_a_visitor_or_a_customer() -> None:
    def named(visitor_id: str, user_id: str | None) -> Erased | None:
        return erased_by(codec.encode("erasure", {"visitor_id": visitor_id, "user_id": user_id}))

    assert named("v", None) == Erased(visitor_id="v")
    assert named("", "u") == Erased(user_id="u")
    for visitor_id, user_id in (("v", "u"), ("v", ""), ("", ""), ("", "u" * 257)):
        assert named(visitor_id, user_id) is None
    assert erased_visitor(codec.encode("erasure", {"visitor_id": "", "user_id": "u"})) is None


def test_a_customers_erasure_takes_nothing_from_the_clicks_and_is_not_reported(
    capsys: pytest.CaptureFixture[str],
) -> None:
    partition = new_partition()
    partition.process([Arrived(0, click("u", ARRIVAL_MS))])
    value = codec.encode("erasure", {"visitor_id": "", "user_id": "u"})
    take_in_erasures(partition, [SimpleNamespace(offset=4, timestamp=ARRIVAL_MS + 1, value=value)])
    assert (partition.counters.open(), partition.counters.filtered) == (1, 0)
    assert partition.erasures.position == 5
    assert "erasure_unreadable" not in capsys.readouterr().out


def test_a_revision_that_has_piled_up_goes_whole() -> None:
    partition = new_partition(revise_within_ms=GAP_MS)
    after = ARRIVAL_MS + 2 * GAP_MS
    partition.process(
        [
            Arrived(0, click("v", ARRIVAL_MS, "a")),
            Arrived(1, click("w", after, "b"), after),
            Arrived(2, click("v", ARRIVAL_MS + 1, "c"), after),
            Arrived(3, click("v", ARRIVAL_MS - 1, "d"), after),
        ]
    )
    assert (partition.counters.sessions, partition.counters.closed, partition.counters.revised) == (1, 3, 2)
    partition.erase("v", after, 0)
    assert partition.take().sessions == []
    assert (partition.counters.sessions, partition.counters.closed, partition.counters.filtered) == (0, 0, 3)
    assert partition.counters.open() == 1
    partition.process([Arrived(4, click("v", ARRIVAL_MS + 2, "e"), after + 1)])
    assert [session.revision for session in partition.take().sessions] == [0]


@given(
    st.integers(0, 2**32),
    st.integers(0, 60),
    st.integers(0, 60),
    st.booleans(),
    st.sampled_from([0, 900_000, 9_000_000]),
)
def test_knowing_an_erasure_from_the_start_or_as_it_comes_gives_the_same_to_everybody(
    seed: int, moment: int, learnt_by: int, is_taken: bool, revise_within_ms: int
) -> None:
    """What a replay does and what a worker does, that learns of it at or before its moment."""
    chance = random.Random(seed)
    records = [
        Arrived(
            number,
            click(
                chance.choice("vwx"), ARRIVAL_MS + number * 400_000 - chance.randrange(900_000), f"e{number}"
            ),
            ARRIVAL_MS + number * 400_000,
        )
        for number in range(60)
    ]
    until = ARRIVAL_MS + moment * 400_000
    known = Erasures()
    known.note("v", until, 0)
    replayed = new_partition(known, revise_within_ms)
    live = new_partition(revise_within_ms=revise_within_ms)
    learnt = min(moment, learnt_by)
    live.process(records[:learnt])
    written = live.take().sessions if is_taken else []
    live.erase("v", until, 0)
    live.process(records[learnt:])
    replayed.process(records)
    others = [s for s in written if s.visitor_id != "v"] + live.take().sessions
    replayed_sessions = replayed.take().sessions
    assert others == replayed_sessions
    assert live.sessionizer.clock.to_row() == replayed.sessionizer.clock.to_row()
    for partition in (live, replayed):
        assert partition.counters.open() == partition.sessionizer.open_events
        assert partition.counters.closed >= partition.counters.sessions >= 0
    assert replayed.drain()
    newest = _newest(replayed_sessions + replayed.take().sessions)
    assert replayed.counters.closed == sum(session.event_count for session in newest)


def _newest(sessions: list[Session]) -> list[Session]:
    newest = {session.session_id: session for session in sessions}
    gone = {session.supersedes for session in sessions}
    return [session for session_id, session in newest.items() if session_id not in gone]
