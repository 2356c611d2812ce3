"""What verify says beside its digests: what only live knows, and what makes a time range undetermined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from streamer.core.rules import SessionRules
from streamer.kafka.start import as_time
from streamer.models.bundle import default_bundle
from streamer.models.processor import processor_kind
from streamer.pipeline.counters import ClickCounters
from streamer.replay.comparison import ComparisonResult
from streamer.replay.plan import PartitionPlan
from streamer.replay.scoring import BundleScorers
from streamer.replay.time_range import TimeRange
from streamer.replay.verify import LivePosition, PartitionReport, VerifyReport, VerifyTask, explain
from streamer.settings import load_settings
from tests.replay.log import hours_of_clicks, replayed

RULES = SessionRules()
WHOLE = TimeRange()
LOG = hours_of_clicks(1)
ARRIVED = LOG[-1].timestamp


@pytest.fixture(scope="module")
def job() -> VerifyTask:
    scorers = BundleScorers.load([default_bundle()], RULES.version)
    return VerifyTask(load_settings(environ={}), RULES, scorers, TimeRange(), {}, lambda _: None, 100)


def explained(
    job: VerifyTask,
    counters: ClickCounters,
    *,
    differs: bool,
    asked: TimeRange = WHOLE,
    rules: str = RULES.version,
    processor: str = "",
    by_setting: Mapping[str, int] | None = None,
) -> PartitionReport:
    compared = ComparisonResult(by_setting=Counter(by_setting))
    if differs:
        compared.differ("missing", ["one"])
    report = PartitionReport(0, PartitionPlan(0, 0, len(LOG)), asked, compared)
    state = LivePosition(1, len(LOG), ARRIVED, counters, rules, frozenset(), processor)
    _, replay = replayed(LOG, RULES, TimeRange())
    explain(report, replace(job, asked=asked), state, replay)
    return report


def test_records_behind_the_clock_make_a_difference_undetermined(job: VerifyTask) -> None:
    counters = ClickCounters(received=len(LOG), clock_behind=3, behind_at=ARRIVED - 5)
    report = explained(job, counters, differs=True)
    assert report.compared.state == "undetermined"
    assert "3 records arrived behind a moment" in report.compared.blockers[0]
    assert VerifyReport([report], "r", ["m"]).result == "undetermined"


def test_where_nothing_differs_a_clock_that_was_behind_did_no_harm(job: VerifyTask) -> None:
    counters = ClickCounters(received=len(LOG), clock_behind=3, behind_at=ARRIVED - 5)
    assert explained(job, counters, differs=False).compared.state == "equal"


def test_records_behind_the_clock_before_the_stretch_excuse_nothing_in_it(job: VerifyTask) -> None:
    counters = ClickCounters(received=len(LOG), clock_behind=3, behind_at=ARRIVED - 5)
    report = explained(job, counters, differs=True, asked=TimeRange(ARRIVED))
    assert report.compared.state == "different"


def test_other_rules_of_the_worker_explain_a_difference(job: VerifyTask) -> None:
    report = explained(job, ClickCounters(received=len(LOG)), differs=True, rules="other")
    assert report.compared.state == "undetermined"
    assert "live has rules other" in report.compared.blockers[0]


def test_another_kind_of_processor_is_named(job: VerifyTask) -> None:
    counters = ClickCounters(received=len(LOG))
    (note,) = explained(job, counters, differs=False, processor="z80").notes
    assert note.startswith(f"live computes on z80, this replay on {processor_kind()}: ")
    assert explained(job, counters, differs=False, processor=processor_kind()).notes == []
    assert VerifyReport([], "r", ["m"]).as_dict()["processor"] == processor_kind()


def test_clicks_that_live_never_saw_are_reported(job: VerifyTask) -> None:
    notes = explained(job, ClickCounters(received=7, lost=4), differs=True).notes
    assert any("4 clicks were deleted" in note for note in notes)
    assert any("began later than the log" in note for note in notes)


def test_a_stretch_that_live_has_not_reached_is_reported(job: VerifyTask) -> None:
    report = explained(
        job, ClickCounters(received=len(LOG)), differs=False, asked=TimeRange(None, ARRIVED + 10)
    )
    assert report.notes == [f"live has read only up to {as_time(ARRIVED)}: compared up to there"]


def test_where_nothing_could_be_compared_nothing_is_called_equal() -> None:
    compared = ComparisonResult()
    parts = [PartitionReport(0, PartitionPlan(0, 0, 1), TimeRange(), compared)]
    assert VerifyReport(parts, "r", ["m"]).result == "equal"
    compared.leave_out("not published yet")
    assert VerifyReport(parts, "r", ["m"]).result == "undetermined"
    compared.sessions = 1
    assert VerifyReport(parts, "r", ["m"]).result == "equal"


def test_one_partition_that_differs_is_enough() -> None:
    equal, different = ComparisonResult(), ComparisonResult()
    different.differ("extra", ["one"])
    parts = [
        PartitionReport(n, PartitionPlan(n, 0, 1), TimeRange(), c) for n, c in enumerate((equal, different))
    ]
    assert VerifyReport(parts, "r", ["m"]).result == "different"
    assert VerifyReport(parts[:1], "r", ["m"]).result == "equal"


def test_a_setting_that_has_changed_since_is_named_and_excuses_nothing(job: VerifyTask) -> None:
    report = explained(job, ClickCounters(received=len(LOG)), differs=True, by_setting={"emit.reasons": 12})
    assert report.compared.state == "different"
    assert "12 records differ in nothing but what emit.reasons adds" in report.notes[0]
