"""Progress without a terminal: a line for every finished step, and now and then one with the time left."""

from __future__ import annotations

import pytest

from streamer.cli.steps import Lines


def test_a_long_step_says_every_half_minute_how_long_it_will_take(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = Lines(lambda: now[0])
    for at, done in ((0, 0), (10, 10), (29, 29), (40, 40), (60, 60), (75, 75), (100, 100)):
        now[0] = at
        lines.show("taxonomy", done, 100, f"{done} tokens")
    assert capsys.readouterr().err.splitlines() == [
        "taxonomy: 40 of 100, about 0:01:00 left (40 tokens)",
        "taxonomy: 75 of 100, about 0:00:25 left (75 tokens)",
        "taxonomy: done (100 tokens)",
    ]


def test_a_step_that_waits_for_its_first_result_says_for_what(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = Lines(lambda: now[0])
    for at in (0, 29, 31, 40):
        now[0] = at
        lines.show("taxonomy", 0, 100, "batch b1 in_progress")
    said = capsys.readouterr().err
    assert said == "taxonomy: 0 of 100, about ? left (batch b1 in_progress)\n"
