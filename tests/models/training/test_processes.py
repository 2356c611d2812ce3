"""Several processes learn what one learns, and a killed run of two goes on. Started by torchrun."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from streamer.cli.recipe import Recipe, training_pipeline
from streamer.models.training.arrays_file import load_arrays
from streamer.settings import load_settings
from tests import forks
from tests.models.test_model_commands import write_clicks

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
STREAMER = [sys.executable, "-c", forks.MAIN, "model"]
PATIENCE_S = 120


def torchrun(work: Path, *options: str) -> list[str]:
    run = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--no-python",
    ]
    return [*run, *STREAMER, "pretrain", "--work", str(work), *options]


def started(command: list[str]) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environ, stderr=subprocess.PIPE)


def finish(command: list[str]) -> None:
    process = started(command)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said.decode()


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Trained by one process, by two, and by two of which one was killed: their work folders."""
    folder = tmp_path_factory.mktemp("processes")
    clicks = write_clicks(folder / "clicks.jsonl", 400)
    weights = {"weight_causal": 0.5, "weight_visitor": 0.2}
    recipe = Recipe.of(clicks, seed=7, epochs=6, name=None, most=100, batch=16, **weights)
    one, two, killed = works = [folder / name for name in ("one", "two", "killed")]
    pipeline = training_pipeline(recipe, one, load_settings(environ={}), lambda *_: None)
    pipeline.fit()
    recipe.save(one)
    for work in (two, killed):
        shutil.copytree(one, work)
    pipeline.pretrain()
    finish(torchrun(two))
    kill_after_first_checkpoint(started(torchrun(killed, "--checkpoint-every", "3")), killed)
    finish(torchrun(killed, "--resume"))
    return {work.name: work for work in works}


def kill_after_first_checkpoint(run: subprocess.Popen[bytes], work: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while not (work / "checkpoint.npz").exists():
        assert run.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, said = run.communicate(timeout=PATIENCE_S)
    assert b": a bug" not in said
    assert run.returncode != 0
    assert not (work / "encoder.npz").exists()


def losses(work: Path) -> list[dict[str, float]]:
    found: list[dict[str, float]] = json.loads((work / "notes.json").read_text())["pretraining"]["losses"]
    return found


def test_two_processes_learn_what_one_learns(works: dict[str, Path]) -> None:
    """But for what is hidden, which each draws for itself: few sessions make few draws."""
    one, two = (losses(works[name]) for name in ("one", "two"))
    limits = {"masked": 0.05, "rest": 0.05, "contrast": 0.1, "causal": 0.05, "visitor": 0.1}
    assert set(one[0]) == set(limits)
    for name, apart in limits.items():
        means = [sum(epoch[name] for epoch in each) / len(each) for each in (one, two)]
        assert means[1] == pytest.approx(means[0], rel=apart)


def test_a_killed_run_of_two_processes_goes_on_as_if_it_had_not_been(works: dict[str, Path]) -> None:
    two, resumed = (load_arrays(works[name] / "encoder.npz") for name in ("two", "killed"))
    assert losses(works["two"]) == losses(works["killed"])
    assert all(np.array_equal(two[name], resumed[name]) for name in two)


def test_a_finished_run_leaves_no_checkpoint(works: dict[str, Path]) -> None:
    assert not any((work / "checkpoint.npz").exists() for work in works.values())
