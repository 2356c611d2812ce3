"""What becomes of one record of clicks that aren't keyed by visitor: without brokers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.kafka.partitions import hash_of
from streamer.pipeline.dead_letter_limit import TooManyDeadLetters
from streamer.pipeline.dead_letters import ARRIVAL_HEADER, OFFSET_HEADER, REASON_HEADER
from streamer.pipeline.decode import Rejected
from streamer.schemas import codec
from streamer.settings import Settings, load_settings
from streamer.sources import click_decoder
from streamer.sources.visitors import ClickVisitors
from streamer.worker.stages.repartition import LiveRepartition
from streamer.worker.stages.stage_shard import StageOutputs
from tests.bad_clicks import ARRIVAL_MS, BAD_CLICKS
from tests.pipeline.test_partition import Arrived, click
from tests.sources.test_profiles import SAMPLES

TARGETS = 5
CREATE_TIME = 0


def settings_of(**clicks: object) -> Settings:
    given_keys = {f"clicks.{key}": value for key, value in clicks.items()}
    return load_settings(overrides={"clicks.keyed": False, **given_keys}, environ={})


def stage_of(settings: Settings, progress: bytes | None = None) -> LiveRepartition:
    visitors = ClickVisitors(settings.clicks, None)
    return LiveRepartition(3, TARGETS, settings, visitors, progress)


def run(records: Iterable[Arrived], **clicks: object) -> Any:
    stage = stage_of(settings_of(**clicks))
    for record in records:
        stage.process(record)
    return stage.take()


def passed(taken: StageOutputs) -> list[Any]:
    """Messages to the topic by visitor, of each partition in order."""
    return [message for messages in taken.batches.values() for message in messages]


def test_clicks_go_to_their_visitors_partition_as_they_came_and_in_order() -> None:
    values = [click(f"v{number % 3}", ARRIVAL_MS + number) for number in range(30)]
    records = [Arrived(n, value, headers=[("trace", b"t")]) for n, value in enumerate(values)]
    taken = run(records)
    assert {topic for topic, _ in taken.batches} == {settings_of().clicks_by_visitor}
    assert sorted(passed(taken)) == sorted(
        (b"v%d" % (n % 3), v, [("trace", b"t")]) for n, v in enumerate(values)
    )
    for (_, partition), messages in taken.batches.items():
        assert {hash_of(key) % TARGETS for key, _, _ in messages} == {partition}
        for visitor in {key for key, _, _ in messages}:
            assert [value for key, value, _ in messages if key == visitor] == values[int(visitor[1:]) :: 3]
    assert taken.events == {"passed": 30, "filtered": 0, "dead_lettered": 0}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "invalid_json"),
        (None, "null_value"),
        (click("", ARRIVAL_MS), "empty:visitor_id"),
        (b'{"timestamp": 1, "event_type": "x"}', "missing_field:visitor_id"),
        (click("v" * 4000, ARRIVAL_MS), "too_long:visitor_id"),
        (click("v", ARRIVAL_MS, page_title="x" * 300_000), "too_large"),
        (b"\0\0\0\0\7", "unknown_schema_id"),
    ],
)
def test_a_record_without_a_visitor_is_one_dead_letter(value: bytes | None, reason: str) -> None:
    taken = run([Arrived(7, value, key=b"other"), Arrived(8, click("v", ARRIVAL_MS))])
    assert [output.topic for output in taken.records] == [settings_of().topics.dlq]
    assert [key for key, _, _ in passed(taken)] == [b"v"]
    key, its_value, headers = taken.records[0].message
    assert (key, its_value) == (b"other", value)
    assert dict(headers)[REASON_HEADER].decode() == reason
    assert dict(headers)[OFFSET_HEADER] == b"7"
    assert list(taken.dead) == [reason]


def test_what_only_the_sessions_judge_goes_on() -> None:
    too_old = click("v", 5)
    assert [value for _, value, _ in passed(run([Arrived(1, too_old)]))] == [too_old]


@pytest.mark.parametrize(
    "value",
    [
        click("v", ARRIVAL_MS, consent=False),
        b'{"visitor_id": 5, "consent": false}',
        codec.encode("click", orjson.loads(click("v", ARRIVAL_MS, "e", consent=False))),
    ],
)
def test_a_click_without_consent_is_written_nowhere(value: bytes) -> None:
    taken = run([Arrived(1, value)])
    assert (passed(taken), taken.records, taken.events["filtered"]) == ([], [], 1)


def test_events_that_are_no_clicks_end_here() -> None:
    identify = b'{"type": "identify", "anonymousId": "a", "timestamp": "2026-01-01T00:00:00Z"}'
    assert run([Arrived(1, identify)], source="segment").events["filtered"] == 1


def test_what_tells_a_dwell_goes_where_its_clicks_go() -> None:
    beat = b'{"_id": "ann", "url": "https://bank.example/", "cdt": "1767225600", "ping": "1"}'
    assert [key for key, _, _ in passed(run([Arrived(1, beat)], source="matomo"))] == [b"ann"]


def test_first_arrival_goes_along_where_the_device_says_when_it_sent_a_click() -> None:
    sent = click("v", ARRIVAL_MS, sent_at=ARRIVAL_MS)
    again = [(ARRIVAL_HEADER, b"77")]
    taken = run(
        [
            Arrived(1, click("v", ARRIVAL_MS)),
            Arrived(2, sent, timestamp=123),
            Arrived(3, sent, timestamp_type=CREATE_TIME),
            Arrived(4, sent, headers=again),
        ]
    )
    assert [headers for _, _, headers in passed(taken)] == [[], [(ARRIVAL_HEADER, b"123")], [], again]


def test_too_many_dead_letters_in_a_row_stop_the_stage_across_restarts() -> None:
    settings = load_settings(overrides={"clicks.keyed": False, "dead_letters.max_run": 3}, environ={})
    stage = stage_of(settings)
    for offset in range(2):
        stage.process(Arrived(offset, b"{"))
    stage = stage_of(settings, msgspec.msgpack.encode(stage.progress))
    stage.process(Arrived(2, b"{"))
    with pytest.raises(TooManyDeadLetters, match=r"partition 3 offset 3.*more than 3"):
        stage.process(Arrived(3, b"{"))
    assert stage.take().events["dead_lettered"] == 1


_ANY = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([bad.value for bad in BAD_CLICKS if bad.value is not None]),
    st.builds(click, st.text(max_size=4), st.integers(0, 9)),
    st.builds(
        lambda fields: orjson.dumps(fields),
        st.dictionaries(
            st.sampled_from(["visitor_id", "consent", "user_id", "timestamp", "event_type"]),
            st.none() | st.booleans() | st.text(max_size=3) | st.integers(0, 2),
        ),
    ),
)


@pytest.mark.parametrize("visitor_from", [None, "user_id", "properties.of"])
@given(value=_ANY)
def test_the_visitor_is_the_one_that_the_sessions_find(visitor_from: str | None, value: bytes) -> None:
    clicks = settings_of(visitor_from=visitor_from).clicks
    _compare(ClickVisitors(clicks, None), click_decoder(clicks).decode, value)


@pytest.mark.parametrize("source", SAMPLES)
@pytest.mark.parametrize("of", SAMPLES)
def test_the_visitor_of_a_vendors_event_is_the_one_that_the_sessions_find(source: str, of: str) -> None:
    clicks = settings_of(source=source).clicks
    value = orjson.dumps(SAMPLES[of])
    _compare(ClickVisitors(clicks, None), click_decoder(clicks).decode, value)


def _compare(visitors: ClickVisitors, decode: Any, value: bytes) -> None:
    """What is filtered or has no visitor is so for the decoder too; what breaks other rules may pass."""
    found = _outcome(lambda: visitors.of(value, ()))
    arrived = _outcome(lambda: decode(value, None, "e"))
    if isinstance(arrived, Rejected):
        assert isinstance(found, bytes) or str(found) == str(arrived)
    else:
        assert found == (None if arrived is None else arrived.visitor_id.encode())


def _outcome(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except Rejected as rejected:
        return rejected
