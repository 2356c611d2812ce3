"""What verify calls equal, what it names as a difference, and what it leaves out with a reason."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from msgspec import structs

from streamer.core.rules import SessionRules
from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.leave_out import Reason
from streamer.models.scorer import Scored, Scorer
from streamer.pipeline.records import RecordWriter
from streamer.replay.comparison import (
    ComparisonResult,
    PublishedSession,
    SessionComparison,
    SessionKey,
    Versions,
)
from streamer.replay.digests import (
    SCHEMA_OF,
    Kind,
    OutputDigests,
    RecordHashes,
    differ_by_rounding,
    hashes_of,
    setting_between,
)
from streamer.replay.time_range import TimeRange, UndeterminedSessions, UndeterminedSpans
from streamer.schemas import codec
from streamer.schemas.click import Click, Session

RULES = SessionRules()
GAP = RULES.gap_ms
START = 10**12
PRINT = RecordHashes(b"1" * 16, b"2" * 16)
OTHER = RecordHashes(b"3" * 16, b"2" * 16)


def a_session(name: str, start: int = START, closed_at: int = START + GAP) -> Session:
    return Session(name, f"v-{name}", None, start, start, closed_at, 1, "gap", False, [])


def live(
    *sessions: Session, found: RecordHashes = PRINT, **fields: Any
) -> dict[SessionKey, PublishedSession]:
    return {
        (s.session_id, s.closed_at): PublishedSession(
            **{
                "session_id": s.session_id,
                "visitor_id": s.visitor_id,
                "started_at": s.started_at,
                "ended_at": s.ended_at,
                "closed_at": s.closed_at,
                "close_reason": "gap",
                "model_version": "m",
                "rules_version": "r",
                "hashes": {"embeddings": [found], "intents": [found]},
                **fields,
            }
        )
        for s in sessions
    }


def compared(
    published: dict[SessionKey, PublishedSession],
    *replayed: Session,
    unread_until_ms: int | None = None,
    undetermined: tuple[Session, ...] = (),
    **options: Any,
) -> ComparisonResult:
    spans = UndeterminedSpans(GAP)
    for session in undetermined:
        spans.add(session)
    comparison = SessionComparison(
        published,
        TimeRange(),
        UndeterminedSessions(unread_until_ms, RULES),
        spans,
        Versions("r", ["m"]),
        **options,
    )
    for session in replayed:
        comparison.add(session, {"m": {"embeddings": PRINT, "intents": PRINT}})
    return comparison.finish()


ONE, TWO = a_session("one"), a_session("two")


def test_the_same_records_are_equal_and_so_are_their_digests() -> None:
    found = compared(live(ONE, TWO), TWO, ONE)
    assert (found.state, found.sessions, found.counts) == ("equal", 2, {})
    assert found.live.as_dict() == found.replayed.as_dict()
    assert found.live.as_dict()["intents"]["count"] == 2


def test_a_session_that_live_lacks_is_missing() -> None:
    found = compared(live(ONE), ONE, TWO)
    assert (found.state, found.named) == ("different", {"missing": ["two"]})
    assert found.live.as_dict() != found.replayed.as_dict()


def test_a_session_that_only_live_has_is_extra() -> None:
    found = compared(live(ONE, TWO), ONE)
    assert (found.state, found.named) == ("different", {"extra": ["two"]})


def test_a_session_of_other_contents_is_different() -> None:
    found = compared(live(ONE, found=OTHER), ONE)
    assert found.named == {"different": ["one"]}
    live_side, replay_side = found.live.as_dict()["intents"], found.replayed.as_dict()["intents"]
    assert live_side["record"] != replay_side["record"]
    assert live_side["content"] == replay_side["content"]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"embedding": 4.8e-7}, "equal"),
        ({"embedding": 1e-3}, "different"),
        ({"memberships": 4.8e-7}, "equal"),
        ({"memberships": 1e-3}, "different"),
        ({"probability": 4.8e-7}, "equal"),
        ({"probability": 1e-3}, "different"),
        ({"event_count": 1}, "different"),
    ],
)
def test_rounding_of_the_models_numbers_is_no_difference_and_is_counted(
    change: dict[str, float], state: str
) -> None:
    clicked = replace(ONE, clicks=[Click(START, "e", "view")])
    bundle = load_bundle(default_bundle())
    (scored,) = Scorer(bundle, memberships=True).score([clicked])
    assert isinstance(scored, Scored)
    records = RecordWriter(bundle, RULES.version).write(clicked, scored)
    bodies = {"embeddings": codec.body(records.embedding), "intents": codec.body(records.intent)}
    published = live(ONE)
    published[ONE.session_id, ONE.closed_at].hashes = {
        kind: [hashes_of(kind, changed(kind, body, change))] for kind, body in bodies.items()
    }
    comparison = SessionComparison(
        published,
        TimeRange(),
        UndeterminedSessions(None, RULES),
        UndeterminedSpans(GAP),
        Versions("r", ["m"]),
    )
    comparison.add(ONE, {"m": {kind: hashes_of(kind, body) for kind, body in bodies.items()}})
    found = comparison.finish()
    assert found.state == state
    assert found.as_dict()["within_tolerance"] == (state == "equal")


def changed(kind: Kind, body: bytes, change: dict[str, float]) -> bytes:
    """The record with something added to its embedding, its memberships, its probabilities or its count."""
    name = SCHEMA_OF[kind]
    record = codec.decode(codec.prefix(name) + body)[1]
    record["event_count"] += int(change.get("event_count", 0))
    if kind == "embeddings":
        for field in ("embedding", "memberships"):
            record[field] = [each + change.get(field, 0) for each in record[field]]
    else:
        record["intents"][0]["probability"] += change.get("probability", 0)
    return codec.encode_body(name, record)


@pytest.mark.parametrize(
    ("other", "is_rounding"),
    [
        ([Reason(1, "a", "view", None, 0.5000001), Reason(2, "b", "view", None, 0.25)], True),
        ([Reason(2, "b", "view", None, 0.5), Reason(1, "a", "view", None, 0.25)], True),
        (
            [
                Reason(1, "a", "view", None, 0.5),
                Reason(2, "b", "view", None, 0.25),
                Reason(3, "c", "view", None, 1e-7),
            ],
            True,
        ),
        ([Reason(1, "a", "view", None, 0.5)], False),
        ([Reason(1, "a", "view", None, 0.6), Reason(2, "b", "view", None, 0.25)], False),
        ([], False),
        (None, False),
    ],
)
def test_reasons_may_differ_by_rounding_and_by_which_of_two_alike_they_name(
    other: list[Reason] | None, is_rounding: bool
) -> None:
    clicked = replace(ONE, clicks=[Click(START, "e", "view")])
    (scored,) = Scorer(bundle := load_bundle(default_bundle())).score([clicked])
    assert isinstance(scored, Scored)
    told = [Reason(1, "a", "view", None, 0.5), Reason(2, "b", "view", None, 0.25)]
    one, another = (
        hashes_of(
            "intents",
            codec.body(
                RecordWriter(bundle, "r").write(clicked, structs.replace(scored, reasons=each)).intent
            ),
        )
        for each in (told, other)
    )
    assert differ_by_rounding("intents", one, another) == is_rounding


def test_what_only_a_setting_adds_is_a_difference_that_names_it() -> None:
    clicked = replace(ONE, clicks=[Click(START, f"e{at}", "view", "saver", "/saver") for at in range(2)])
    bundle = load_bundle(default_bundle())

    def hashes(**asked: bool) -> dict[Kind, RecordHashes]:
        (scored,) = Scorer(bundle, **asked).score([clicked])
        assert isinstance(scored, Scored)
        records = RecordWriter(bundle, RULES.version).write(clicked, scored)
        bodies: dict[Kind, bytes] = {
            "embeddings": codec.body(records.embedding),
            "intents": codec.body(records.intent),
        }
        return {kind: hashes_of(kind, body) for kind, body in bodies.items()}

    silent, told = hashes(), hashes(memberships=True, reasons=True)
    for of_live, of_replay in ((silent, told), (told, silent), (told, told)):
        published = live(ONE)
        published[ONE.session_id, ONE.closed_at].hashes = {kind: [of_live[kind]] for kind in of_live}
        comparison = SessionComparison(
            published,
            TimeRange(),
            UndeterminedSessions(None, RULES),
            UndeterminedSpans(GAP),
            Versions("r", ["m"]),
        )
        comparison.add(ONE, {"m": of_replay})
        found = comparison.finish()
        if of_live is of_replay:
            assert (found.state, found.by_setting) == ("equal", {})
        else:
            assert found.state == "different"
            assert found.by_setting == {"emit.memberships": 1, "emit.reasons": 1}
    another = codec.decode(codec.prefix("session_intent") + told["intents"].body)[1] | {"event_count": 9}
    assert setting_between("intents", silent["intents"], told["intents"]) == "emit.reasons"
    body = codec.encode_body("session_intent", another)
    assert setting_between("intents", silent["intents"], hashes_of("intents", body)) is None


def test_a_session_that_closed_at_another_time_is_different() -> None:
    found = compared(live(a_session("one", closed_at=START + GAP + 1)), ONE)
    assert found.named == {"different": ["one"]}


def test_a_session_that_live_published_twice_is_reported() -> None:
    published = live(ONE)
    for hashes in published["one", ONE.closed_at].hashes.values():
        hashes.append(PRINT)
    assert compared(published, ONE).named == {"twice": ["one"]}
    # A click sent again after an end event gives two sessions of the same id, live and in the replay.
    published = live(ONE)
    for hashes in published["one", ONE.closed_at].hashes.values():
        hashes.append(PRINT)
    assert compared(published, ONE, ONE).state == "equal"


def test_a_session_that_lacks_one_of_its_records_is_different() -> None:
    published = live(ONE)
    published["one", ONE.closed_at].hashes["intents"].clear()
    assert compared(published, ONE).named == {"different": ["one"]}


def test_what_live_has_still_to_publish_is_left_out() -> None:
    found = compared(live(ONE), ONE, TWO, unpublished=["two"])
    assert (found.state, found.undetermined) == ("equal", {"not published yet": 1})


def test_visitors_who_were_erased_are_left_out_on_both_sides() -> None:
    found = compared(live(ONE), TWO, erased=["v-one", "v-two"])
    assert found.state == "equal"
    assert sum(found.undetermined.values()) == 2


def test_other_rules_make_a_partition_incomparable() -> None:
    found = compared(live(ONE, rules_version="old"), TWO)
    assert found.state == "undetermined"
    assert "were cut by rules old" in found.blockers[0]


def test_a_bundle_that_is_not_at_hand_is_named_and_its_sessions_left_out() -> None:
    found = compared(live(ONE, model_version="old@1") | live(TWO), ONE, TWO)
    assert (found.state, found.counts, found.sessions) == ("undetermined", {}, 1)
    assert "made by bundle old@1" in found.blockers[0]


@pytest.mark.parametrize("side", ["live", "replay"])
def test_sessions_that_may_have_begun_before_are_no_difference(side: str) -> None:
    published = live(ONE) if side == "live" else {}
    replayed = () if side == "live" else (ONE,)
    found = compared(published, *replayed, undetermined=(a_session("undetermined", START - GAP),))
    assert found.state == "different"  # another visitor's session says nothing about this one
    mine = Session(**{**{f.name: getattr(ONE, f.name) for f in fields(ONE)}, "started_at": START - GAP})
    found = compared(published, *replayed, undetermined=(mine,))
    assert found.state == "equal"
    assert sum(found.undetermined.values()) == 1


def test_live_sessions_near_the_first_record_that_was_read_are_undetermined() -> None:
    certain_after = START - GAP - RULES.max_future_ms - 1
    assert compared(live(ONE), unread_until_ms=certain_after).state == "different"
    found = compared(live(ONE), unread_until_ms=certain_after + 1)
    assert (found.state, sum(found.undetermined.values())) == ("equal", 1)


def test_digests_go_on_from_what_was_stored() -> None:
    whole, begun = OutputDigests(), OutputDigests()
    bodies = [bytes([n]) * 40 for n in range(2, 12, 2)]
    for body in bodies:
        whole.add_hashes("intents", RecordHashes(body[:16], body[:16]))
    for body in bodies[:2]:
        begun.add_hashes("intents", RecordHashes(body[:16], body[:16]))
    resumed = OutputDigests(begun.as_dict())
    for body in bodies[2:]:
        resumed.add_hashes("intents", RecordHashes(body[:16], body[:16]))
    assert resumed.as_dict() == whole.as_dict()


def test_records_of_sessions_are_digested_as_each_by_itself() -> None:
    """Where an id or a user moves `closed_at`, too."""
    clicked = replace(a_session("one"), clicks=[Click(START, "e", "view")])
    (scored,) = Scorer(bundle := load_bundle(default_bundle())).score([clicked])
    assert isinstance(scored, Scored)
    writer = RecordWriter(bundle, RULES.version)
    sessions = [a_session("one"), a_session("two" * 40), replace(a_session("one", 5, 2**40), user_id="ü")]
    records = [writer.write(session, scored) for session in sessions]
    together, each_alone = OutputDigests(), OutputDigests()
    together.add(records[:1])
    together.add([])
    together.add(records[1:])
    for each in records:
        each_alone.add_hashes("embeddings", hashes_of("embeddings", codec.body(each.embedding)))
        each_alone.add_hashes("intents", hashes_of("intents", codec.body(each.intent)))
    assert together.as_dict() == each_alone.as_dict()


def test_the_content_digest_knows_no_closing_time() -> None:
    fields = codec.schema("session_intent")["fields"]
    record: dict[str, Any] = {
        f["name"]: {"string": "x", "long": 1, "int": 1, "boolean": True}.get(str(f["type"])) for f in fields
    }
    record["intents"] = []
    one, other = (codec.encode_body("session_intent", record | {"closed_at": at}) for at in (1, 2))
    assert hashes_of("intents", one).content == hashes_of("intents", other).content
    assert hashes_of("intents", one).record != hashes_of("intents", other).record
