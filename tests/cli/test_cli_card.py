"""`streamer model card` from the outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forks

pytest.importorskip("torch")


def card(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", forks.MAIN, "model", "card", "--out", str(folder / "out"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_shipped_bundle_has_a_card_without_anything_else(tmp_path: Path) -> None:
    found = card(tmp_path, "--json")
    assert found.returncode == 0, found.stderr
    written = json.loads(found.stdout)
    document = json.loads(Path(written["json"]).read_text())
    assert document["model_version"] == written["model_version"]
    assert [each["path"] for each in document["evidence"]] == [
        "models/default/manifest.json",
        "models/card/statements.toml",
    ]
    assert Path(written["html"]).read_text().startswith("<!doctype html>")
    assert Path(written["md"]).read_text().startswith("# Model and data card")


def test_a_file_that_is_not_there_is_a_wrong_call(tmp_path: Path) -> None:
    found = card(tmp_path, "--evaluation", "nowhere.json")
    assert found.returncode == 2
    assert "nowhere.json: can't be read as evaluation" in found.stderr
    assert "Traceback" not in found.stderr
    assert not (tmp_path / "out").exists()


def test_outcomes_without_sessions_are_a_wrong_call(tmp_path: Path) -> None:
    found = card(tmp_path, "--outcomes", "o.jsonl")
    assert found.returncode == 2
    assert "--outcomes: expected with --sessions FILE" in found.stderr
