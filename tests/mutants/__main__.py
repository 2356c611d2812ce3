"""Breaks each mechanism in a copy of the repository and runs the test that has to notice.

The copy has nothing compiled, so what is broken is what runs."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.catalogue import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIED = ("streamer", "models", "schemas", "tests", "docs", "pyproject.toml", "README.md")
TIMEOUT_S = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument(
        "words", nargs="*", metavar="WORD", help="only mutants with one of these in their names"
    )
    words = parser.parse_args().words
    chosen = [m for m in MUTANTS if not words or any(word in m.name for word in words)]
    console, table, survived = Console(width=130), Table("broken", "noticed by", ""), 0
    with tempfile.TemporaryDirectory() as folder:
        copy = _copied(Path(folder) / "repository")
        for checks in sorted({mutant.caught_by for mutant in chosen}):
            said = _failure(copy, checks)
            if said:
                console.print(f"{checks} fails without any mutant, so nothing can be told:\n{said}")
                return 1
        for mutant in chosen:
            noticed = bool(_failure_with(copy, mutant))
            survived += not noticed
            console.print(f"{mutant.name}: {'noticed' if noticed else 'NOT noticed'}")
            table.add_row(mutant.name, mutant.caught_by, "red" if noticed else "[red]still green[/]")
    console.print(table)
    console.print(f"{len(chosen) - survived} of {len(chosen)} noticed")
    return 1 if survived else 0


def _copied(copy: Path) -> Path:
    copy.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.c")
            shutil.copytree(source, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy2(source, copy / name)
    return copy


def _failure_with(copy: Path, mutant: Mutant) -> str:
    file = copy / mutant.file
    sound = file.read_text()
    file.write_text(sound.replace(mutant.old, mutant.new))
    try:
        return _failure(copy, mutant.caught_by)
    finally:
        file.write_text(sound)


def _failure(copy: Path, checks: str) -> str:
    """The end of what was printed if the checks fail; empty if they pass."""
    kind, _, fault = checks.partition(":")
    if kind == "chaos":
        command = ["-m", "tests.chaos", fault, "--dose", "short", "--seed", "1"]
    else:
        command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *checks.split()]
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=copy, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not done after {TIMEOUT_S} s"
    return (done.stdout + done.stderr).decode()[-2000:] if done.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
