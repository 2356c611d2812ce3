"""The provisional record of a session whose visitor logs in."""

from __future__ import annotations

import pytest

from streamer.core.sessionizer import Sessionizer
from streamer.pipeline import partition as partition_module
from streamer.pipeline.decode import Arrived
from streamer.pipeline.partition import Partition
from streamer.schemas.click import Session
from tests.core.partition import RULES, a_click
from tests.core.test_early import Seen


def _decode(value: tuple[str, int, str | None], *_: object) -> Arrived:
    visitor, at, user = value
    return Arrived(
        visitor_id=visitor, user_id=user, crawler=False, is_click=True, click=a_click(at, f"e{at}")
    )


def published(*clicks: tuple[str, int, str | None]) -> list[Session]:
    """What clicks of (visitor, event time, user) give; arrival is event time."""
    partition = Partition("t", 0, Sessionizer(RULES, at_login=True), _decode)  # type: ignore[arg-type]
    records = [Seen(offset, click[1], click) for offset, click in enumerate(clicks)]  # type: ignore[arg-type]
    partition.process(records)
    while not partition.drain():
        pass
    return partition.take().sessions


def test_a_login_gives_the_session_so_far_out_once() -> None:
    early, final = published(("ann", 5000, None), ("ann", 5010, "u"), ("ann", 5020, "u"), ("ann", 5030, None))
    assert (early.is_final, early.user_id, early.event_count, early.closed_at) == (False, "u", 2, 5010)
    assert (final.is_final, final.user_id, final.event_count, final.revision) == (True, "u", 4, 1)
    assert final.session_id == early.session_id


def test_the_next_customers_session_is_given_out_after_the_one_before_has_closed() -> None:
    found = published(("ann", 5000, "u"), ("ann", 5010, "w"))
    assert [(s.user_id, s.is_final) for s in found] == [
        ("u", False),
        ("w", False),
        ("u", True),
        ("w", True),
    ]


def test_what_a_login_closes_is_in_the_take_that_the_login_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_module, "MAX_TAKE", 3)
    partition = Partition("t", 0, Sessionizer(RULES, at_login=True), _decode)  # type: ignore[arg-type]
    clicks = [("ann", 5000, "u"), ("ben", 5005, "v"), ("ann", 5010, "w"), ("cid", 5020, None)]
    records = [Seen(offset, click[1], click) for offset, click in enumerate(clicks)]  # type: ignore[arg-type]
    assert partition.process(records) == 3
    found = [(s.user_id, s.is_final) for s in partition.take().sessions]
    assert found == [("u", False), ("v", False), ("w", False), ("u", True)]
    stored = {window.user_id for window in partition.sessionizer.stored_sessions()}
    assert stored - {None} == {"v", "w"}, "a restart goes on with these"
    partition.resume_closing()
    assert partition.process(records, 3) == 4


def test_anonymous_sessions_are_given_out_once() -> None:
    assert [s.is_final for s in published(("ann", 5000, None), ("ben", 5010, None))] == [True, True]


def test_a_partition_says_until_the_take_that_a_login_has_piled_up() -> None:
    partition = Partition("t", 0, Sessionizer(RULES, at_login=True), _decode)  # type: ignore[arg-type]
    said = []
    for offset, user in enumerate([None, "u"]):
        partition.process([Seen(offset, 5000 + offset, ("ann", 5000 + offset, user))])  # type: ignore[arg-type]
        said.append(partition.has_login)
    partition.take()
    assert [*said, partition.has_login] == [False, True, False]
