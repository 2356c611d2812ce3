"""`streamer model probe` from the outside: clicks of simulated people, their features and what they did."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn")

from streamer.models.fused.scorer import FusedScorer
from streamer.models.simulator import SimulatorConfig, simulate, write
from streamer.models.simulator.files import read_table
from tests import forks


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The simulator's tables, and features.csv: of each impression what is known of the person."""
    folder = tmp_path_factory.mktemp("probe")
    tables = write(simulate(SimulatorConfig(visitors=300, seed=5)), folder)
    users = {user["user_id"]: user for user in read_table(tables["users"])}
    with (folder / "features.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["visitor_id", "time", "age", "device"])
        for shown in read_table(tables["impressions"]):
            user = users[shown["user_id"]]
            if user["linked_visitor_id"]:
                rows.writerow([user["linked_visitor_id"], shown["time"], user["age"], user["device"]])
    return folder


def probe(folder: Path, *arguments: str, features: str = "features.csv") -> subprocess.CompletedProcess[str]:
    files = [features, "outcomes.jsonl.gz", "--sessions", "clicks.jsonl.gz"]
    command = [sys.executable, "-c", forks.MAIN, "model", "probe", *files, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_a_team_gets_a_table_a_verdict_and_a_scorer(simulated: Path) -> None:
    arguments = ["--outcome", "P-*", "--any", "--labels", "", "--out", "fused.json"]
    found = probe(simulated, *arguments)
    assert found.returncode == 0, found.stderr
    lines = found.stdout.splitlines()
    assert "(none)" in lines[0]
    assert "left out" in lines[1]
    assert any(line.startswith("hand fused with embedding") for line in lines)
    # The shipped bundle has prototypes.
    assert any(line.startswith("memberships beside it") for line in lines)
    assert lines[-1].startswith("Fused with the embedding, hand-made features and n-grams ")
    scorer = FusedScorer.load(simulated / "fused.json")
    assert scorer.classes == ("(none)", "any")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--labels", "50,many"], 2, "--labels '50,many': expected numbers with commas, 50 each at least"),
        (["--labels", "49"], 2, "--labels '49'"),
        (["--draws", "7"], 2, "--draws"),
        (["--out", "s3://bucket/file"], 2, "--out s3:/bucket/file: expected a file of this machine"),
        (["--outcome", "Q-*"], 1, "--outcome 'Q-*': no such outcome; expected one of 'P-"),
        ([], 1, "different ones, expected at most 8; choose by --outcome"),
    ],
)
def test_wrong_calls_are_reported_before_work_begins(
    simulated: Path, arguments: list[str], code: int, message: str
) -> None:
    found = probe(simulated, *arguments)
    assert found.returncode == code
    assert message in " ".join(found.stderr.split())
    assert "Traceback" not in found.stderr


def test_features_of_unknown_visitors_are_an_error_that_says_so(simulated: Path) -> None:
    lines = (simulated / "features.csv").read_text().splitlines()
    (simulated / "others.csv").write_text("\n".join([lines[0], *(f"x{line}" for line in lines[1:])]))
    found = probe(simulated, "--outcome", "P-*", "--any", features="others.csv")
    assert found.returncode == 1
    assert "none is left, expected at least two classes (left out: " in found.stderr
    assert "no session before" in found.stderr
