"""Which build runs: one decision, before any module that it is about."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from streamer.schemas.build import EXTENSIONS, IS_COMPILED, NO_EXTENSIONS, PACKAGES, not_built
from tests.conftest import ROOT


def run(program: str, no_extensions: str) -> str:
    """What a Python process of its own prints."""
    environment = os.environ | {NO_EXTENSIONS: no_extensions}
    command = [sys.executable, "-c", program]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def extension_name(path: Path) -> str:
    """`streamer/models` and `streamer/schemas` are links to the folders beside `streamer`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "streamer" else ("streamer", *parts))


def test_the_list_is_that_of_the_sources_with_c_types() -> None:
    sources = {
        extension_name(path)
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix == ".pyx" or (path.suffix == ".pxd" and path.with_suffix(".py").exists())
    }
    assert set(EXTENSIONS) == sources
    assert list(EXTENSIONS) == sorted(EXTENSIONS)


@pytest.mark.parametrize(
    "first", ["streamer.schemas.codec", "streamer.models.tokenizer", "streamer.worker.run"]
)
def test_a_variable_makes_everything_run_as_python_whatever_is_imported_first(first: str) -> None:
    program = f"""
import sys, {first}, streamer.worker.run
from streamer.schemas.build import EXTENSIONS
loaded = [sys.modules[name].__file__ for name in EXTENSIONS if name in sys.modules]
print([file for file in loaded if not file.endswith(".py")])
"""
    assert run(program, no_extensions="1") == "[]"


@pytest.mark.compiled
def test_without_the_variable_everything_that_was_compiled_runs_so() -> None:
    program = """
import sys, streamer.worker.run
from streamer.schemas.build import EXTENSIONS
print([name for name in EXTENSIONS if sys.modules[name].__file__.endswith(".py")])
"""
    assert run(program, no_extensions="") == "[]"


def test_processes_started_from_here_inherit_the_build() -> None:
    program = """
import subprocess, sys
import streamer
program = "from streamer.schemas.build import WHY_PURE; print(WHY_PURE)"
subprocess.run([sys.executable, "-c", program], check=True)
"""
    assert run(program, no_extensions="1") == f"{NO_EXTENSIONS} is set"


def test_what_exists_compiled_only_cannot_be_imported_then() -> None:
    program = """
try:
    import streamer.native.wire
except ModuleNotFoundError as error:
    print(error)
"""
    assert run(program, no_extensions="1") == (
        f"streamer.native.wire exists compiled only, and pure Python runs: {NO_EXTENSIONS} is set"
    )


def test_one_that_is_missing_is_enough_to_run_none(tmp_path: Path) -> None:
    assert IS_COMPILED or os.environ.get(NO_EXTENSIONS) or not_built()
    for name in EXTENSIONS[1:]:
        file = tmp_path / f"{name.replace('.', '/')}{EXTENSION_SUFFIXES[0]}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert not_built(tmp_path) == [EXTENSIONS[0]]
