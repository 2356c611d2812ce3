"""Rules are checked when they are made and named by a version."""

from __future__ import annotations

import dataclasses

import pytest

from streamer.core import rules
from streamer.core.rules import SessionRules

CHANGED = {
    "gap_ms": 1,
    "max_duration_ms": 1,
    "max_events": 1,
    "end_events": frozenset({"logout", "bye"}),
    "out_of_orderness_ms": 0,
    "idle_after_ms": 0,
    "max_future_ms": 0,
    "min_timestamp_ms": 0,
    "revise_within_ms": 1,
}


def test_version_is_eight_hex_digits_and_stays() -> None:
    assert SessionRules().version == "2aae873d"
    several = frozenset({"logout", "bye", "timeout", "exit"})
    assert SessionRules(end_events=several).version == "7337822b"


def test_version_differs_with_every_rule() -> None:
    assert {field.name for field in dataclasses.fields(SessionRules)} == set(CHANGED)
    versions = {
        dataclasses.replace(SessionRules(), **{name: value}).version for name, value in CHANGED.items()
    }
    assert len(versions | {SessionRules().version}) == len(CHANGED) + 1


def test_version_differs_with_the_number_of_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    before = SessionRules().version
    monkeypatch.setattr(rules, "CORE_RULES_NUMBER", rules.CORE_RULES_NUMBER + 1)
    assert SessionRules().version != before


@pytest.mark.parametrize("name", ["gap_ms", "max_duration_ms", "max_events"])
def test_session_rule_below_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0, expected at least 1"):
        SessionRules(**{name: 0})


@pytest.mark.parametrize("name", ["out_of_orderness_ms", "idle_after_ms", "max_future_ms"])
def test_watermark_rule_below_zero_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -1, expected 0 or more"):
        SessionRules(**{name: -1})
