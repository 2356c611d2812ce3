"""The directions of imports, as pyproject.toml states them."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parent.parent


def test_imports_point_the_ways_that_are_stated() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_a_worker_imports_neither_torch_nor_what_makes_traces() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import streamer.worker.run, sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "onnxruntime" in loaded
    assert not {"torch", "sklearn", "scipy", "pandas", "matplotlib", "opentelemetry"} & set(loaded)


def test_an_installation_takes_one_name() -> None:
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]
    packages = set(find_packages(str(ROOT), **included))
    assert {package.partition(".")[0] for package in packages} == {"streamer"}
    assert {"streamer.client", "streamer.models.simulator", "streamer.schemas"} <= packages


def test_a_service_may_have_modules_called_as_our_folders_are(tmp_path: Path) -> None:
    for name in ("models", "schemas"):
        (tmp_path / f"{name}.py").write_text("own = True\n")
    program = "import models, schemas, streamer.client; print(models.own, schemas.own)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["True", "True"]
