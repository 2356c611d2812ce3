"""What the page knows: plain values, then rules that hold for any records."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamer.ui import state
from streamer.ui.state import NO_LABEL, OTHERS, READABLE_A_MINUTE, SCALES_MS, Filter, PageState
from streamer.ui.wording import duration, pace, percent, reasons_of
from tests.client.records import NOW_MS, a_record

REACH_MS = min(SCALES_MS)
ALL = Filter(with_bots=True)


def an_intent(session_id: str, **fields: Any) -> dict[str, Any]:
    return a_record("v", session_id=session_id, **fields)


def abstaining(session_id: str, **fields: Any) -> dict[str, Any]:
    given = {"top_intent": None, "abstained": True, "abstain_reason": "ambiguous"}
    return an_intent(session_id, **given | fields)


def a_customer(user: str, *sessions: str, **fields: Any) -> dict[str, Any]:
    past = {"closed_at": NOW_MS, "top_intent": None, "probability": None, "confidence": 0.5}
    record = a_record("v", user_id=user, session_id=sessions[0], attribution="link", confidence=0.5)
    history = [{"session_id": each, "attribution": "link", **past} for each in sessions]
    return record | {"history": history, "profile": [], "sessions": len(sessions), "visitors": 1} | fields


def test_a_session_is_listed_and_counted_under_its_label() -> None:
    page = PageState()
    page.session(an_intent("one"), 3, NOW_MS)
    (row,) = page.recent(Filter(), 10, NOW_MS).rows
    assert (row.session_id, row.label and row.label.label, row.partition) == ("one", "credit / cards", 3)
    assert page.shares(Filter(), REACH_MS, NOW_MS).totals == {"cards": 1}


def test_the_clicks_that_a_record_names_are_told() -> None:
    page = PageState()
    reason = {
        "click": 7,
        "event_id": "e",
        "event_type": "form_start",
        "page_type": "faq",
        "contribution": 3.5,
    }
    page.session(an_intent("one", reasons=[reason, reason | {"click": 2, "page_type": None}]), 0, NOW_MS)
    page.session(an_intent("other", reasons=None), 0, NOW_MS)
    named, silent = page.find_session("one"), page.find_session("other")
    assert named is not None
    assert silent is not None
    assert reasons_of(named) == "+3.50 click 7, form start, faq; +3.50 click 2, form start"
    assert reasons_of(silent) == ""


def test_a_session_without_a_label_is_counted_as_one() -> None:
    page = PageState()
    page.session(abstaining("one"), 0, NOW_MS)
    assert page.shares(Filter(), REACH_MS, NOW_MS).totals == {NO_LABEL: 1}
    assert [each.session_id for each in page.recent(Filter(NO_LABEL), 10, NOW_MS).rows] == ["one"]
    assert page.recent(Filter("cards"), 10, NOW_MS).rows == []


def test_a_session_that_is_still_open_is_not_listed() -> None:
    page = PageState()
    page.session(an_intent("one", is_final=False), 0, NOW_MS)
    assert page.recent(ALL, 10, NOW_MS).rows == []
    assert page.sessions_seen == 0


def test_a_revision_takes_the_place_of_what_was_counted() -> None:
    page = PageState()
    page.session(an_intent("one"), 0, NOW_MS)
    page.session(abstaining("one", revision=1), 0, NOW_MS + 1)
    page.session(an_intent("one"), 0, NOW_MS + 2)  # older than what is known
    assert page.shares(ALL, REACH_MS, NOW_MS).totals == {NO_LABEL: 1}
    page.session(an_intent("two", revision=2, supersedes="one"), 0, NOW_MS + 3)
    assert page.shares(ALL, REACH_MS, NOW_MS).totals == {"cards": 1}
    assert page.find_session("one") is None


def test_bots_are_left_out_unless_they_are_asked_for() -> None:
    page = PageState()
    page.session(an_intent("one", is_bot=True), 0, NOW_MS)
    assert page.recent(Filter(), 10, NOW_MS).rows == []
    assert page.shares(Filter(), REACH_MS, NOW_MS).totals == {}
    assert page.shares(ALL, REACH_MS, NOW_MS).totals == {"cards": 1}


def test_a_filter_by_a_parent_lets_its_intents_pass() -> None:
    page = PageState()
    page.session(an_intent("one"), 0, NOW_MS)
    page.session(an_intent("two", top_intent="loans"), 0, NOW_MS)
    assert page.shares(Filter("p"), REACH_MS, NOW_MS).totals == {"cards": 1}
    assert [each.session_id for each in page.recent(Filter("p"), 10, NOW_MS).rows] == ["one"]


def test_shares_are_by_the_time_of_publication() -> None:
    page = PageState()
    step = SCALES_MS[REACH_MS]
    start = NOW_MS // step * step
    page.session(an_intent("one"), 0, start - 1)
    page.session(an_intent("two"), 0, start)
    shares = page.shares(ALL, REACH_MS, start)
    assert shares.starts_ms[-2:] == [start - step, start]
    assert shares.counts["cards"][-2:] == [1, 1]
    assert page.shares(ALL, REACH_MS, start + REACH_MS).totals == {}


def test_more_than_anybody_reads_is_listed_as_a_sample_and_counted_whole() -> None:
    page = PageState()
    for number in range(5000):
        page.session(an_intent(f"s{number}"), 0, NOW_MS)
    recent = page.recent(ALL, 100, NOW_MS)
    assert recent.a_minute == 5000
    assert recent.one_in == 32
    assert 5000 / recent.one_in <= READABLE_A_MINUTE
    assert "one in 32" in pace(recent)
    assert page.shares(ALL, REACH_MS, NOW_MS).totals == {"cards": 5000}
    later = page.recent(ALL, 100, NOW_MS + 120_000)
    assert (later.one_in, pace(later)) == (1, "0 sessions in the last minute")


def test_who_logs_in_is_shown_once_for_each_session() -> None:
    page = PageState()
    page.customer("u", a_customer("u", "one", is_final=False), NOW_MS)
    page.customer("u", a_customer("u", "one", is_final=False, event_count=9), NOW_MS + 1)
    assert [(each.user_id, each.event_count) for each in page.hand_overs] == [("u", 9)]
    page.customer("u", a_customer("u", "one"), NOW_MS + 2)
    assert len(page.hand_overs) == 1


def test_whose_a_session_is_comes_from_the_customers_record() -> None:
    page = PageState()
    page.session(an_intent("one"), 0, NOW_MS)
    page.customer("u", a_customer("u", "two", "one"), NOW_MS)
    customer, past = page.customers_of(["one"])["one"]
    assert (customer.user_id, past.attribution, past.confidence) == ("u", "link", 0.5)


def test_who_is_erased_is_forgotten_and_counts_stay() -> None:
    page = PageState()
    page.session(an_intent("one"), 0, NOW_MS)
    page.session(a_record("w", session_id="two", user_id="u"), 0, NOW_MS)
    page.customer("u", a_customer("u", "two", is_final=False), NOW_MS)
    page.erased_visitor("v")
    assert page.find_session("one") is None
    assert list(page.hand_overs) == []
    page.customer("u", None, NOW_MS)
    assert page.find_customer("u") is None
    assert page.find_session("two") is None
    assert page.shares(ALL, REACH_MS, NOW_MS).totals == {"cards": 2}


def test_reasons_of_dead_letters_beyond_a_number_are_counted_together() -> None:
    page = PageState()
    for number in range(state.MOST_REASONS + 10):
        page.dead_letter(f"reason-{number}")
    assert len(page.dead) <= state.MOST_REASONS + 1
    assert page.dead[OTHERS] == 10


RECORDS = st.tuples(
    st.integers(0, 12),  # session
    st.integers(0, 4),  # revision
    st.sampled_from(["cards", "loans", None]),
    st.booleans(),  # is_bot
    st.sampled_from([None, 3, 7]),  # supersedes
    st.integers(0, 3 * REACH_MS),  # time
)


@given(st.lists(RECORDS, max_size=60))
def test_counts_are_those_of_the_newest_revisions_in_reach(records: list[Any]) -> None:
    page = PageState()
    held: dict[str, tuple[int, str, int]] = {}
    times: list[int] = []
    for number, revision, top, is_bot, supersedes, after_ms in records:
        name, other = f"s{number}", None if supersedes is None else f"s{supersedes}"
        made = an_intent if top else abstaining
        fields = {"top_intent": top, "is_bot": is_bot, "revision": revision, "supersedes": other}
        page.session(made(name, **fields), 0, NOW_MS + after_ms)
        if name in held and revision <= held[name][0]:
            continue
        held.pop(other or "", None)
        held[name] = (revision, top or NO_LABEL, NOW_MS + after_ms)
        times.append(NOW_MS + after_ms)
    now_ms, step = max(times, default=NOW_MS), SCALES_MS[REACH_MS]
    first = (now_ms // step - REACH_MS // step + 1) * step
    expected: dict[str, int] = {}
    for _, outcome, at_ms in held.values():
        if at_ms >= first:
            expected[outcome] = expected.get(outcome, 0) + 1
    counted = {name: n for name, n in page.shares(ALL, REACH_MS, now_ms).totals.items() if n}
    assert counted == expected
    assert page.sessions_seen == len(held)


@given(st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 5000)), min_size=1, max_size=50))
def test_memory_is_bounded_whatever_comes(records: list[tuple[int, int]]) -> None:
    page = PageState()
    for at_ms, number in records:
        page.session(an_intent(f"s{number}"), 0, at_ms)
    for buckets in page._buckets.values():
        assert len(buckets._counts) <= buckets._steps
    assert len(page._sessions) <= state.HELD_SESSIONS


def test_only_the_newest_sessions_and_customers_are_held() -> None:
    page = PageState()
    for number in range(state.HELD_SESSIONS + 5):
        page.session(an_intent(f"s{number}", close_reason="drain", closed_at=number), 0, NOW_MS)
        page.customer(f"u{number}", a_customer(f"u{number}", f"s{number}"), NOW_MS)
    assert page.find_session("s4") is None
    assert page.find_session("s5") is not None
    assert page.find_customer("u4") is None
    assert len(page.drains_ms(0)) == 1000
    assert min(page.drains_ms(0)) == state.HELD_SESSIONS + 5 - 1000


def test_numbers_in_words() -> None:
    assert [duration(ms) for ms in (-5, 12_400, 180_000, 9_000_000, 345_600_000)] == [
        *("0 s", "12 s", "3 min", "2.5 h", "4 days")
    ]
    assert [percent(p) for p in (0, 0.001, 0.514, 0.997, 1)] == ["0%", "<1%", "51%", ">99%", "100%"]
