from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from streamer.models.bundle import Bundle, BundleError, load_bundle
from streamer.models.drift import DriftMonitor, PartDrift, compare, level_of, report, traffic_sample
from streamer.models.drift_profile import ProfileLayout, jensen_shannon, psi
from streamer.models.encoded import Encoded
from streamer.models.runtime import Outputs
from streamer.models.scorer import Scorer
from streamer.schemas.click import Session
from streamer.worker.drift import DriftCollector
from tests.conftest import RunStreamer
from tests.models.hand_made import START_MS, a_click, a_session, bank_sessions
from tests.models.test_model_commands import write_clicks


def watched(bundle: Bundle, sessions: list[Session], block: int = 10_000) -> DriftMonitor:
    monitor = DriftMonitor.of(bundle, block)
    assert monitor is not None
    scorer = Scorer(bundle, monitor.see)
    for at in range(0, len(sessions), 50):
        scorer.score(sessions[at : at + 50])
    return monitor


def strangers(count: int) -> list[Session]:
    """A site that was rebuilt: pages that nobody has learnt."""
    return [
        a_session(*(a_click(j * 900, path=f"/new{i % 7}/x{j}", page_type="redesign") for j in range(12)))
        for i in range(count)
    ]


def test_a_trained_bundle_has_a_profile_of_what_it_never_learnt_from(small_bundle: Bundle) -> None:
    profile = small_bundle.manifest.profile
    assert profile is not None
    assert profile.split == "test"
    assert profile.sessions == small_bundle.manifest.data["sessions"]["test"]
    assert sum(profile.parts["intent"].values()) == profile.sessions
    assert sum(profile.parts["page_type"].values()) == sum(profile.parts["path_1"].values())
    assert profile.parts["product_id"]["missing"] == sum(profile.parts["product_id"].values())


def test_the_same_traffic_does_not_drift_and_a_rebuilt_site_does(small_bundle: Bundle) -> None:
    same = watched(small_bundle, bank_sessions(600, seed=9))
    assert same.sessions == 600
    # Chance alone gives ten ranges of novelty 0.1 or so: the profile is of about a hundred sessions.
    assert max(same.psi().values()) < 0.2
    other = watched(small_bundle, strangers(300))
    assert other.psi()["novelty"] > 0.25
    assert other.psi()["page_type"] > 0.25
    assert other.unknown_shares()["page_type"] == 1.0
    assert other.unknown_shares()["event_type"] == 0.0


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_sum_of_all_sessions_counts_is_counted_at_once(
    small_bundle: Bundle, count: int, seed: int
) -> None:
    assert small_bundle.manifest.profile is not None
    layout = ProfileLayout(small_bundle.taxonomy, small_bundle.manifest.profile.novelty_deciles)
    rng = np.random.default_rng(seed)
    sessions = bank_sessions(count, seed=seed % 1000) + strangers(count)
    for encoded in small_bundle.tokenizer.encode(sessions):
        n = len(encoded.rows)
        best = rng.integers(0, len(small_bundle.taxonomy.intents), n)
        novelty = rng.choice([0.0, *layout.novelty_edges, 1e9, np.nan], n).astype(np.float32)
        reasons = rng.choice([None, "ambiguous", "novel", "too_short"], n).tolist()
        expected = layout.counts(encoded, best, novelty, reasons).sum(0)
        assert layout.counted(encoded, best, novelty, reasons).tolist() == expected.tolist()


def test_old_sessions_leave_the_window_by_blocks(small_bundle: Bundle) -> None:
    monitor = watched(small_bundle, bank_sessions(200, seed=9) + strangers(250), block=100)
    assert 100 <= monitor.sessions < 200 + 50
    assert monitor.unknown_shares()["page_type"] == 1.0


def test_before_the_first_session_there_is_nothing_to_tell(small_bundle: Bundle) -> None:
    monitor = DriftMonitor.of(small_bundle)
    assert monitor is not None
    assert (monitor.sessions, monitor.psi()) == (0, {})


def shown(monitor: DriftMonitor) -> str:
    registry = CollectorRegistry()
    registry.register(DriftCollector(monitor))
    return generate_latest(registry).decode()


def test_the_worker_shows_it_as_metrics(small_bundle: Bundle) -> None:
    text = shown(watched(small_bundle, strangers(60)))
    assert "streamer_drift_sessions 60.0" in text
    assert 'streamer_unknown_value_share{field="page_type"} 1.0' in text
    assert 'streamer_drift_psi{part="intent"}' in text


def test_levels_are_shown_once_there_are_sessions_enough(small_bundle: Bundle) -> None:
    assert "streamer_drift_level{" not in shown(watched(small_bundle, strangers(499)))
    text = shown(watched(small_bundle, strangers(500)))
    assert 'streamer_drift_level{part="page_type"} 2.0' in text
    assert 'streamer_drift_level{part="event_type"} 0.0' in text


@pytest.mark.parametrize(
    ("psi", "level"), [(0.0, 0), (0.0999, 0), (0.1, 1), (0.2499, 1), (0.25, 2), (9.0, 2)]
)
def test_levels_begin_at_the_usual_limits(psi: float, level: int) -> None:
    assert level_of(psi) == level


def rewritten(source: Path, to: Path, change: dict[str, object]) -> Path:
    """A copy of a bundle with another manifest; files and hashes stay as they are."""
    to.mkdir()
    for path in source.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((to / "manifest.json").read_text())
    manifest = {k: v for k, v in (manifest | change).items() if v is not ...}
    (to / "manifest.json").write_text(json.dumps(manifest))
    return to


def test_a_bundle_without_a_profile_loads_and_has_no_monitor(small_bundle_path: Path, tmp_path: Path) -> None:
    bundle = load_bundle(rewritten(small_bundle_path, tmp_path / "old", {"profile": ...}))
    assert bundle.manifest.profile is None
    assert DriftMonitor.of(bundle) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"novelty_deciles": [1.0]},
        {"novelty_deciles": [9.0, 8, 7, 6, 5, 4, 3, 2, 1]},
        {"parts": {}},
        {"parts": "none"},
    ],
)
def test_a_profile_that_does_not_fit_is_refused(
    small_bundle_path: Path, tmp_path: Path, wrong: dict[str, object]
) -> None:
    profile = json.loads((small_bundle_path / "manifest.json").read_text())["profile"]
    with pytest.raises(BundleError):
        load_bundle(rewritten(small_bundle_path, tmp_path / "bad", {"profile": profile | wrong}))


def test_a_negative_count_is_refused(small_bundle: Bundle) -> None:
    assert small_bundle.manifest.profile is not None
    profile = deepcopy(small_bundle.manifest.profile)
    profile.parts["abstention"]["none"] = -1
    with pytest.raises(ValueError, match="'abstention' doesn't fit"):
        ProfileLayout(small_bundle.taxonomy, profile.novelty_deciles).total(profile)


def test_distances_are_0_between_equals_and_grow() -> None:
    a, b, c = np.array([50.0, 50]), np.array([40.0, 60]), np.array([0.0, 100])
    assert psi(a, a) == jensen_shannon(a, a) == 0
    assert 0 < psi(a, b) < psi(a, c)
    assert 0 < jensen_shannon(a, b) < jensen_shannon(a, c) < 1
    assert psi(a, 100 * a) < 1e-6  # only shares count


def compared(bundle: Bundle, before: list[Session], after: list[Session]) -> dict[str, PartDrift]:
    a, b = traffic_sample(bundle, before), traffic_sample(bundle, after)
    layout = ProfileLayout(bundle.taxonomy, a.deciles())
    rng = np.random.default_rng(0)
    moved = compare(layout, a.by_visitor(layout), b.by_visitor(layout), rng, draws=100)
    return {each.part: each for each in moved}


def test_sessions_that_cannot_be_scored_are_counted(small_bundle: Bundle) -> None:
    class Broken:
        def run(self, encoded: Encoded) -> Outputs:
            raise RuntimeError

    broken = replace(small_bundle, runtime=Broken())  # type: ignore[arg-type]
    found = traffic_sample(broken, bank_sessions(20))
    assert (found.sessions, found.unscored) == (0, 20)


def test_two_samples_of_the_same_traffic_are_alike(small_bundle: Bundle) -> None:
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

    sessions = bank_sessions(10)
    bots = [replace(session, is_bot=True) for session in sessions[:4]]
    assert traffic_sample(small_bundle, bots + sessions[4:]).sessions == 6


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


def test_since_parts_one_file_and_the_report_has_plots_and_outcomes(
    run_streamer: RunStreamer, small_bundle_path: Path, tmp_path: Path
) -> None:
    """Sessions a minute apart: those after the middle are of a site that was rebuilt; nobody asks for cards
    there any more."""
    day_ms, middle = 86_400_000, START_MS + 600 * 60_000
    lines, outcomes = [], []
    for number, session in enumerate(bank_sessions(1200, per_visitor=1)):
        for click in session.clicks:
            path = click.path if click.timestamp < middle else f"/new{click.path}"
            lines.append(
                {
                    "visitor_id": session.visitor_id,
                    "timestamp": click.timestamp,
                    "event_id": click.event_id,
                    "event_type": click.event_type,
                    "page_url": f"https://bank.example{path}",
                }
            )
        name = "card" if number < 600 and number % 3 else "call"
        outcomes.append({"visitor_id": session.visitor_id, "time": START_MS + 5 * day_ms, "outcome": name})
    outcomes.append({"visitor_id": "nobody", "time": START_MS + 30 * day_ms, "outcome": "call"})
    lines.sort(key=lambda line: line["timestamp"])
    for name, rows in (("clicks.jsonl", lines), ("outcomes.jsonl", outcomes)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ["--since", str(middle), "--bundle", str(small_bundle_path), "--report", "drift.html"]
    result = run_streamer(
        "model", "drift", "clicks.jsonl", *options, "--outcomes", "outcomes.jsonl", "--json"
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert json.loads((tmp_path / "drift.json").read_text()) == found
    assert found["verdict"] == "moved a lot"
    assert sum(found["sessions"].values()) == 1200
    assert {each["outcome"]: each["verdict"] for each in found["outcomes"]["rates"]}["card"] == "moved a lot"
    assert {day["day"] % day_ms for day in found["days"]} == {0}
    page = (tmp_path / "drift.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "card" in page
    before_all = run_streamer("model", "drift", "clicks.jsonl", "--since", "2020-01-01")
    assert before_all.returncode == 1
    assert "--since 2020-01-01T00:00:00Z: 0 sessions closed before" in before_all.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["a.jsonl", "b.jsonl", "--since", "2025-01-01"], "--since: expected without LATER"),
        (["a.jsonl", "--outcomes", "o.jsonl"], "--outcomes: expected with --since TIME or LATER"),
        (["a.jsonl", "--report", "drift.txt"], "--report drift.txt: expected FILE.html"),
        (["a.jsonl", "--since", "yesterday"], "--since 'yesterday': expected a time such as"),
    ],
)
def test_a_call_that_compares_nothing_is_wrong(
    run_streamer: RunStreamer, options: list[str], said: str
) -> None:
    result = run_streamer("model", "drift", *options)
    assert (result.returncode, said in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (None, 2, "cannot be read"),
        ('{"not": "a click"}\n', 1, "no session of a person"),
        ('{"not": "a click"}\n', 1, "1 clicks: 0 in 0 sessions, 0 late, 1 refused"),
    ],
)
def test_a_file_without_sessions_is_said(
    run_streamer: RunStreamer, tmp_path: Path, content: str | None, code: int, said: str
) -> None:
    if content:
        (tmp_path / "clicks.jsonl").write_text(content)
    result = run_streamer("model", "drift", "clicks.jsonl")
    assert (result.returncode, said in result.stderr) == (code, True), result.stderr
