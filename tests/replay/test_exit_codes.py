"""Exit code 0 of a replay: all was read, and all that came of it is where it was asked for."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from streamer import sample
from streamer.replay.options import ReplayOptions, bundles_of
from streamer.replay.run import SourceChangedError, replay
from streamer.replay.time_range import TimeRange
from streamer.settings import load_settings
from tests import forks
from tests.replay.log import hours_of_clicks
from tests.replay.test_file_source import dumped
from tests.worker.live import some_clicks

COMMAND = [sys.executable, "-c", forks.MAIN, "replay"]


@contextmanager
def started(*arguments: str, cwd: Path, limit_bytes: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """A replay; with `limit_bytes`, none of its files may become larger, as on a disk that is full."""

    def limit() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    with subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, text=True, stderr=subprocess.PIPE, preexec_fn=limit
    ) as process:
        yield process


def ended(*arguments: str, cwd: Path, limit_bytes: int | None = None) -> tuple[int, str]:
    with started(*arguments, cwd=cwd, limit_bytes=limit_bytes) as process:
        errors = process.communicate(timeout=120)[1]
        return process.returncode, errors


def worker_of(pid: int) -> int:
    """A process that the replay has started, and not multiprocessing's own."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        time.sleep(0.02)
    raise TimeoutError("no process of the replay was started")


def test_a_full_disk_is_exit_1_in_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    arguments = "--source", str(sample.path()), "--out", "s.parquet"
    code, errors = ended(*arguments, cwd=tmp_path, limit_bytes=50_000)
    assert (code, errors) == (
        1,
        "Error: s.parquet.part/partition-0-0.sessions: can't be written (File too large)\n",
    )
    assert not (tmp_path / "s.parquet").exists()
    assert ended(*arguments, cwd=tmp_path)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.parquet", "s.users.parquet"]


def test_standard_output_that_takes_no_more_is_exit_1() -> None:
    command = " ".join(["exec", *map(repr, COMMAND), "--source", str(sample.path()), "--out - > /dev/full"])
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (1, "Error: standard output: No space left on device\n")


def test_a_process_that_dies_is_exit_1_and_leaves_no_file(tmp_path: Path) -> None:
    logs = [dumped(tmp_path / f"{n}.jsonl", hours_of_clicks(n, 400), n).read_bytes() for n in range(2)]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(logs))
    arguments = "--source", "log.jsonl", "--out", "s.parquet", "--processes", "2"
    with started(*arguments, cwd=tmp_path) as process:
        os.kill(worker_of(process.pid), signal.SIGKILL)
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert errors == "Error: a process of the replay failed; run the same command to go on\n"
    assert not (tmp_path / "s.parquet").exists()


def test_a_file_that_grows_meanwhile_is_exit_1(tmp_path: Path) -> None:
    clicks = [orjson.dumps(click) + b"\n" for click in some_clicks(20, seed=1)]
    path = tmp_path / "c.jsonl"
    path.write_bytes(b"".join(clicks[:-1]))
    settings = load_settings(environ={})
    options = ReplayOptions(TimeRange(), str(path), bundles_of([], settings), str(tmp_path / "s.parquet"))

    def append(done: int, total: int) -> None:
        if path.stat().st_size < sum(map(len, clicks)):
            path.write_bytes(b"".join(clicks))

    with pytest.raises(SourceChangedError, match=r"c\.jsonl: has changed while it was replayed"):
        replay(settings, options, append)
    assert not (tmp_path / "s.parquet").exists()
