"""What is to be printed is printed, or the command fails: full disks, closed descriptors, readers that go."""

from __future__ import annotations

import shlex
import subprocess
import sys

import pytest

from tests import forks

STREAMER = shlex.join([sys.executable, "-c", forks.MAIN])
COMMANDS = ["--help", "--version", "acls", "acls --json"]
"""By typer, by print, and as bytes."""


def shell(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("target", "reason"), [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_output_that_goes_nowhere_is_an_error(command: str, target: str, reason: str) -> None:
    done = shell(f"{STREAMER} {command} {target}")
    assert (done.returncode, done.stderr) == (1, f"Error: standard output: {reason}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_reader_that_goes_away_ends_the_command_quietly(command: str) -> None:
    done = shell(f"set -o pipefail; {STREAMER} {command} | true")
    assert done.stderr == ""
    assert done.returncode in (0, 1)  # 0: it was written before the reader had gone


def test_a_command_that_prints_no_data_needs_no_output(tmp_path: object) -> None:
    done = shell(f"{STREAMER} kafka stop --data-dir {tmp_path}/none >&-")
    assert (done.returncode, done.stderr) == (0, "Kafka was not running\n")


def test_a_closed_standard_error_puts_no_message_among_the_data() -> None:
    done = shell(f"{STREAMER} --set nonsense acls 2>&-")
    assert (done.returncode, done.stdout) == (2, "")


def test_text_that_the_encoding_of_the_terminal_lacks_is_escaped() -> None:
    done = shell(f"PYTHONIOENCODING=ascii {STREAMER} acls --role producer=User:名")
    assert done.returncode == 0
    assert r"User:\u540d" in done.stdout
