"""`streamer model evaluate` from the outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forks

pytest.importorskip("torch")


def evaluate(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = ["--out", str(folder / "out"), "--work", str(folder / "work")]
    command = [sys.executable, "-c", forks.MAIN, "model", "evaluate", "--quick", *paths, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_one_step_makes_a_report_and_a_second_run_finds_it(tmp_path: Path) -> None:
    first = evaluate(tmp_path, "--steps", "costs", "--json")
    assert first.returncode == 0, first.stderr
    assert "costs:" in first.stderr
    assert json.loads(first.stdout)["metrics"] == {}
    assert "Latency and cost" in (tmp_path / "out" / "report.html").read_text()
    second = evaluate(tmp_path, "--steps", "costs", "--json")
    assert second.returncode == 0
    assert "costs:" not in second.stderr


def test_an_unknown_step_is_a_wrong_call_that_names_the_steps(tmp_path: Path) -> None:
    found = evaluate(tmp_path, "--steps", "mian")
    assert found.returncode == 2
    assert "mian" in found.stderr
    assert "baselines" in found.stderr


def test_a_folder_without_clickstreams_is_told(tmp_path: Path) -> None:
    found = evaluate(tmp_path, "--steps", "shop1999", "--data", str(tmp_path))
    assert found.returncode == 1
    assert "shop1999.events.jsonl.gz is not there" in found.stderr
