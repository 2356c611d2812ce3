"""Every command of the tutorial runs, in order, and prints what the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from streamer.settings import TopicSettings
from tests.conftest import ROOT, FreshSettings, as_environment, without_settings

PAGE = (ROOT / "docs/tutorial.md").read_text()
BLOCKS = re.findall(r"^```(sh)?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PRELUDE = """
set -euo pipefail
# The package is installed already, and the broker of the tests runs: both calls are only read.
pip() { (cd "$ROOT" && "$PYTHON" -m pip "$@" --quiet --dry-run --no-deps --no-build-isolation); }
python() { "$PYTHON" "$@"; }
streamer() {
  if [ "$1" != kafka ]; then "$PYTHON" -c "from streamer.cli import main; main()" "$@"; fi
}
"""


def test_every_command_of_the_tutorial_runs_and_prints_what_it_shows(
    fresh_settings: FreshSettings, tmp_path: Path
) -> None:
    settings = fresh_settings({"identity.enabled": True})
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    commands = [text for kind, text in BLOCKS if kind]
    assert len(commands) > 5
    script = PRELUDE + "".join(
        f'exec > "$LOGS/{number}" 2>&1\n{text}' for number, text in enumerate(commands)
    )
    environ = without_settings() | as_environment(settings)
    environ |= {"ROOT": str(ROOT), "PYTHON": sys.executable, "LOGS": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environ, timeout=300, check=False, capture_output=True
    )
    said = [(tmp_path / str(number)) for number in range(len(commands)) if (tmp_path / str(number)).exists()]
    assert done.returncode == 0, f"{commands[len(said) - 1]}\n{said[-1].read_text()}"
    printed = [each.read_text() for each in said]
    for topic in TopicSettings.model_fields:
        own, default = getattr(settings.topics, topic), TopicSettings.model_fields[topic].default
        if isinstance(own, str):
            printed = [text.replace(own, default) for text in printed]
    number = -1
    for kind, text in BLOCKS:
        if kind:
            number += 1
            continue
        lines = [line.split() for line in printed[number].splitlines()]
        for shown in text.splitlines():
            assert shown.strip() == "..." or shown.split() in lines, f"{shown}\n{printed[number]}"
