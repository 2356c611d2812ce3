"""The directions of imports, as pyproject.toml states them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_point_the_ways_that_are_stated() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_a_worker_imports_no_torch() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import streamer.worker.run, sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "onnxruntime" in loaded
    assert not {"torch", "sklearn", "scipy", "pandas", "matplotlib"} & set(loaded)
