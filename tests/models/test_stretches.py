"""Two stretches of traffic: alike where nothing changed, moved where something did, and how sure that is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle
from models.profile import Layout
from models.stretches import Moved, compare, report, stretch_of
from schemas.click import Session
from tests.conftest import RunStreamer
from tests.models.hand_made import bank_sessions
from tests.models.test_drift import strangers
from tests.models.test_model_commands import write_clicks


def compared(bundle: Bundle, before: list[Session], after: list[Session]) -> dict[str, Moved]:
    a, b = stretch_of(bundle, before), stretch_of(bundle, after)
    layout = Layout(bundle.taxonomy, a.deciles())
    rng = np.random.default_rng(0)
    moved = compare(layout, a.by_visitor(layout), b.by_visitor(layout), rng, draws=100)
    return {each.part: each for each in moved}


def test_two_stretches_of_the_same_traffic_are_alike(small_bundle: Bundle) -> None:
    found = compared(small_bundle, bank_sessions(500, seed=1), bank_sessions(500, seed=2))
    assert {each.verdict for each in found.values()} == {"alike"}
    assert all(each.psi_interval[0] <= each.psi_interval[1] < 0.1 for each in found.values())


def test_a_topic_that_goes_away_moves_the_intents_and_says_which(small_bundle: Bundle) -> None:
    before = bank_sessions(600, seed=1)
    after = [s for s in bank_sessions(600, seed=2) if not any("/insurance" in str(c.path) for c in s.clicks)]
    found = compared(small_bundle, before, after)
    assert found["intent"].verdict != "alike"
    name, share_before, share_after = found["intent"].changes[0]
    assert name in {intent.id for intent in small_bundle.taxonomy.intents}
    assert abs(share_before - share_after) > 0.05
    assert found["page_type"].verdict == "alike"


def test_a_rebuilt_site_moves_pages_and_novelty(small_bundle: Bundle) -> None:
    found = compared(small_bundle, bank_sessions(300, seed=1), strangers(300))
    assert found["page_type"].verdict == found["novelty"].verdict == "moved a lot"
    assert found["page_type"].changes[0][0] in {"known", "unknown"}


def test_few_visitors_give_wide_intervals_and_no_verdict(small_bundle: Bundle) -> None:
    before = bank_sessions(300, seed=1)
    few = compared(small_bundle, before, bank_sessions(40, seed=2, per_visitor=20))["intent"]
    many = compared(small_bundle, before, bank_sessions(300, seed=2))["intent"]
    assert np.ptp(few.psi_interval) > np.ptp(many.psi_interval)
    assert report([few], 300, 40)["verdict"] == "too few sessions to tell"


def test_bots_are_left_out(small_bundle: Bundle) -> None:
    import msgspec

    sessions = bank_sessions(10)
    bots = [msgspec.structs.replace(session, is_bot=True) for session in sessions[:4]]
    assert stretch_of(small_bundle, bots + sessions[4:]).sessions == 6


def test_the_command_compares_files_and_profiles(
    run_streamer: RunStreamer, small_bundle_path: Path, tmp_path: Path
) -> None:
    clicks = str(write_clicks(tmp_path / "clicks.jsonl", 240))
    with_profile = run_streamer("model", "drift", clicks, "--bundle", str(small_bundle_path), "--json")
    assert with_profile.returncode == 0, with_profile.stderr
    found = json.loads(with_profile.stdout)
    assert found["sessions"]["after"] > 100
    assert {"intent", "abstention", "novelty", "page_type"} <= {part["part"] for part in found["parts"]}
    replayed = run_streamer("replay", "--source", clicks, "--out", "sessions.parquet")
    assert replayed.returncode == 0, replayed.stderr
    shown = run_streamer("model", "drift", clicks, "sessions.parquet", "--bundle", str(small_bundle_path))
    assert shown.stdout.startswith("alike: "), shown.stderr
    before, after = shown.stdout.split(": ")[1].splitlines()[0].split(", ")
    assert before.removesuffix(" sessions before") == after.removesuffix(" after")


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [(None, 2, "cannot be read"), ('{"not": "a click"}\n', 1, "no session of a person")],
)
def test_a_file_without_sessions_is_said(
    run_streamer: RunStreamer, tmp_path: Path, content: str | None, code: int, said: str
) -> None:
    if content:
        (tmp_path / "clicks.jsonl").write_text(content)
    result = run_streamer("model", "drift", "clicks.jsonl")
    assert (result.returncode, said in result.stderr) == (code, True), result.stderr
