"""The rules by which a worker refuses to start, from plain values."""

from __future__ import annotations

import pytest

from streamer.core.watermark import PartitionClock
from streamer.kafka.topic_metadata import TopicMetadata
from streamer.pipeline.counters import ClickCounters
from streamer.settings import Settings, load_settings
from streamer.worker.changelog import STATE_VERSION, Marker, StateTopics
from streamer.worker.refused import RefusedError
from streamer.worker.start_checks import (
    all_outputs,
    changes_of_reading,
    check_has_partitions,
    check_not_forgotten,
    check_outputs,
    check_source,
    partitions_to_use,
)

OUTPUTS = Settings().outputs


def marker(partitions: int, open_clicks: int = 0) -> Marker:
    counters = ClickCounters(received=9, closed=9 - open_clicks)
    return Marker(STATE_VERSION, 1, 1, 0, 9, partitions, "rules", PartitionClock(0, 0, 0), counters, [])


def clicks(partitions: int) -> TopicMetadata:
    return TopicMetadata("clicks", "id", partitions)


@pytest.mark.parametrize(
    "state", [StateTopics(), StateTopics("clicks"), StateTopics("clicks", "id"), StateTopics("clicks", "")]
)
def test_a_state_fits_its_topic_as_far_as_it_names_it(state: StateTopics) -> None:
    check_source("app", state, "clicks", "id")


def test_a_cluster_without_topic_ids_is_asked_for_names_only() -> None:
    check_source("app", StateTopics("clicks", "id"), "clicks", "")


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        (StateTopics("others", "id"), "made from topic others, and these settings"),
        (StateTopics("clicks", "earlier"), "clicks was deleted and created again .*its id is id.*earlier"),
    ],
)
def test_the_state_of_another_topic_is_refused(state: StateTopics, complaint: str) -> None:
    with pytest.raises(RefusedError, match=complaint):
        check_source("app", state, "clicks", "id")


@pytest.mark.parametrize(
    ("states", "changes"),
    [
        ([], []),
        ([StateTopics("clicks", "id")], []),
        ([StateTopics("clicks", "id", (), "log_append_time", "segment:1234")], []),
        (
            [StateTopics("clicks", "id", (), "create_time", "segment:1234")] * 2,
            ["clicks.arrival was create_time, is log_append_time"],
        ),
        (
            [
                StateTopics("clicks", "id", (), "log_append_time", ""),
                StateTopics("clicks", "id", (), "log_append_time", "shop:5678"),
            ],
            ["clicks.source was native, is segment:1234", "clicks.source was shop:5678, is segment:1234"],
        ),
    ],
)
def test_clicks_that_were_read_otherwise_are_told(states: list[StateTopics], changes: list[str]) -> None:
    assert changes_of_reading(Settings(), "segment:1234", states) == changes


def test_all_partitions_are_used_unless_sessions_of_another_number_are_open() -> None:
    assert partitions_to_use("app", clicks(4), {}, drain=False) == 4
    assert partitions_to_use("app", clicks(4), {0: marker(4, open_clicks=2)}, drain=False) == 4
    assert partitions_to_use("app", clicks(6), {0: marker(4), 1: marker(6, open_clicks=2)}, drain=False) == 6
    with pytest.raises(RefusedError, match=r"has 6 partitions.*open sessions of the 4 before.*--drain"):
        partitions_to_use("app", clicks(6), {0: marker(4), 1: marker(4, open_clicks=1)}, drain=False)


def test_a_drain_uses_the_partitions_of_the_sessions_that_are_open() -> None:
    assert partitions_to_use("app", clicks(6), {0: marker(4, open_clicks=1), 1: marker(4)}, drain=True) == 4
    both = {0: marker(4, open_clicks=1), 1: marker(6, open_clicks=1)}
    assert partitions_to_use("app", clicks(8), both, drain=True) == 6
    assert partitions_to_use("app", clicks(6), {0: marker(4)}, drain=True) == 6


@pytest.mark.parametrize("drain", [False, True])
def test_a_topic_never_loses_partitions_but_by_being_made_anew(drain: bool) -> None:
    with pytest.raises(RefusedError, match="deleted and created again"):
        partitions_to_use("app", clicks(2), {0: marker(4)}, drain=drain)


def test_every_topic_needs_as_many_partitions_as_are_used() -> None:
    check_has_partitions(TopicMetadata("intents", "", 6), "clicks", 4)
    with pytest.raises(RefusedError, match="intents has 4 partitions and clicks has 6"):
        check_has_partitions(TopicMetadata("intents", "", 4), "clicks", 6)


@pytest.mark.parametrize(
    ("written", "states"),
    [
        ((), []),
        (OUTPUTS, [StateTopics("clicks", "id", OUTPUTS)]),
        (OUTPUTS, [StateTopics("clicks", "id", OUTPUTS), StateTopics()]),
        (OUTPUTS, [StateTopics()]),
        ((), [StateTopics("clicks", "id", ("others",))]),
    ],
)
def test_outputs_are_an_apps_own_if_nobody_has_written_to_them_or_its_state_names_them(
    written: tuple[str, ...], states: list[StateTopics]
) -> None:
    check_outputs(Settings(), written, states)


@pytest.mark.parametrize(
    ("written", "states"),
    [
        (OUTPUTS, []),
        (OUTPUTS[1:2], []),
        (OUTPUTS, [StateTopics("clicks", "id", (OUTPUTS[0], *OUTPUTS[2:]))]),
    ],
)
def test_outputs_that_somebody_has_written_to_and_the_state_does_not_name_are_refused(
    written: tuple[str, ...], states: list[StateTopics]
) -> None:
    foreign = next(topic for topic in written if not states or topic not in states[0].outputs)
    with pytest.raises(RefusedError, match=f"topic {foreign} is an output of another app.*--share-outputs"):
        check_outputs(Settings(), written, states)


def test_an_output_that_is_left_out_for_a_while_stays_an_apps_own() -> None:
    with_shadow = load_settings(overrides={"model.shadow_bundle": "bundle"}, environ={})
    without = StateTopics(
        "clicks", "id", all_outputs(Settings(), [StateTopics("clicks", "id", with_shadow.outputs)])
    )
    check_outputs(with_shadow, with_shadow.outputs, [without])


def test_a_partition_that_the_group_has_read_needs_its_state() -> None:
    check_not_forgotten(Settings(), [1, 2], {0: 7})
    with pytest.raises(RefusedError, match=r"no state of partition 2, .* up to offset 7"):
        check_not_forgotten(Settings(), [1, 2], {2: 7})
