"""`python -m benchmarks.training`: clicks a second and memory that training takes, by one process and by two.

Sessions are simulated, of two thousand visitors, and repeated under other names until there are as many
clicks as asked for. Each step runs in a process of its own; its peak of memory includes mapped files. The
last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from itertools import count
from pathlib import Path
from typing import Any

from streamer.schemas.click import Session

SEED, VISITORS = 9, 2_000
PEAK_FLOPS = {"H100 (SXM), bfloat16": 989e12, "A100, bfloat16": 312e12, "L4, bfloat16": 121e12}
"""Dense, by the vendor's data sheets."""
USED = (0.02, 0.2)
"""Shares of the peak that models as narrow as this and batches of 64 and of thousands leave to hope for."""


def simulated(clicks: int) -> Iterator[Session]:
    """Sessions of people until there are so many clicks, each repetition of other visitors."""
    from streamer.core.rules import SessionRules
    from streamer.models.simulator import SimulatorConfig, simulate
    from streamer.models.simulator.files import write_table
    from streamer.replay.file_source import sessions_of_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clicks.jsonl.gz"
        write_table(simulate(SimulatorConfig(visitors=VISITORS, seed=SEED)).clicks(), path, level=1)
        sessions = [each for each in sessions_of_file(path, SessionRules()).sessions if not each.is_bot]
    left = clicks
    for turn in count():
        for session in sessions:
            named = blake2b(f"{turn} {session.session_id}".encode(), digest_size=16).hexdigest()
            yield replace(session, session_id=named, visitor_id=f"{turn}-{session.visitor_id}")
            left -= len(session.clicks)
            if left <= 0:
                return


def shards(folder: Path, clicks: int) -> dict[str, Any]:
    """Fits a tokenizer and writes token shards."""
    from streamer.models.tokenizer import Tokenizer
    from streamer.models.training.token_shards import write_shards

    began = time.process_time()
    tokenizer = Tokenizer.fit(simulated(clicks))
    fitted = time.process_time()
    (folder / "tokenizer.json").write_text(tokenizer.to_json())
    written = write_shards(simulated(clicks), tokenizer, folder / "tokens", ("train", "validation", "test"))
    taken = time.process_time() - fitted
    sessions, found, size = (
        sum(getattr(each, name) for each in written.files) for name in ("sessions", "clicks", "bytes")
    )
    return {
        "sessions": sessions,
        "clicks": found,
        "fit_clicks_per_cpu_s": round(found / (fitted - began)),
        "write_clicks_per_cpu_s": round(found / taken),
        "bytes_per_session": round(size / sessions, 1),
        "peak_mb": peak_mb(),
    }


def pretraining(folder: Path, steps: int, batch: int) -> dict[str, Any] | None:
    """So many steps of one epoch, alone or under torchrun; figures from the first process.

    Clicks are those of all processes; with whole cores a second is one of this process' CPU time.
    """
    import torch

    from streamer.models.tokenizer import Tokenizer
    from streamer.models.training.config import TrainConfig
    from streamer.models.training.pretrain import Execution, deterministic, pretrain
    from streamer.models.training.processes import started_by_torchrun
    from streamer.models.training.token_shards import TokenShards

    class EnoughError(Exception):
        pass

    seen: list[tuple[float, float, str]] = []

    def progress(step: int, _steps: int, note: str) -> None:
        seen.append((time.perf_counter(), time.process_time(), note))
        if step == steps:
            raise EnoughError

    tokenizer = Tokenizer.from_json((folder / "tokenizer.json").read_text())
    opened = TokenShards.open(folder / "tokens", tokenizer)
    corpus = opened.corpus("train")
    config = TrainConfig(epochs=1, batch=batch)
    generator = torch.Generator().manual_seed(config.seed)
    with started_by_torchrun(os.environ, torch.device("cpu")) as processes, deterministic(config.threads):
        how = Execution(processes=processes)
        with suppress(EnoughError):
            pretrain(corpus, tokenizer, config, generator, progress, how)
    if not processes.is_first:
        return None
    files = [file for file in opened.files if file.split == "train"]
    per_session = sum(file.clicks for file in files) / sum(file.sessions for file in files)
    done = (len(seen) - 1) * batch * per_session
    return {
        "steps": len(seen),
        "steps_of_an_epoch": corpus.batch_count(batch),
        "clicks_per_s": round(done / (seen[-1][0] - seen[0][0])),
        "clicks_per_s_of_whole_cores": round(done / (seen[-1][1] - seen[0][1])),
        "mean_loss": round(mean_loss(seen[-1][2]), 4),
        "peak_mb": peak_mb(),
    }


def mean_loss(note: str) -> float:
    """The sum of the losses that progress reports, each the mean of the epoch so far."""
    return sum(float(part.rsplit(" ", 1)[1]) for part in note.split(","))


def flops(folder: Path, batch: int) -> dict[str, Any]:
    """Of products of matrices, forwards and backwards, a click."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from streamer.models.tokenizer import Tokenizer
    from streamer.models.training.config import TrainConfig
    from streamer.models.training.objectives import Objectives
    from streamer.models.training.pretrain import new_encoder
    from streamer.models.training.token_shards import TokenShards

    tokenizer = Tokenizer.from_json((folder / "tokenizer.json").read_text())
    corpus = TokenShards.open(folder / "tokens", tokenizer).corpus("train", 4_000)
    config, generator = TrainConfig(), torch.Generator().manual_seed(0)
    encoder = new_encoder(tokenizer, config, generator)
    objectives = Objectives(encoder, config)
    clicks = 0
    with FlopCounterMode(display=False) as counter:
        for step, (bucket, rows) in enumerate(corpus.batches(batch, generator)):
            tokens = bucket.pick(rows)
            losses = objectives.losses(encoder, tokens, bucket.visitors_of(rows), generator, step=step)
            (losses.masked + losses.rest + losses.contrast).backward()
            clicks += int(tokens.lengths.sum())
    each = counter.get_total_flops() / clicks
    return {
        "flops_per_click": round(each),
        "estimated_clicks_per_s": {
            name: [round(peak * share / each, -3) for share in USED] for name, peak in PEAK_FLOPS.items()
        },
    }


def peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    """Measure all, or one step in this process."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--clicks", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--folder", type=Path, help="for the shards; they stay there")
    parser.add_argument("--step", choices=("shards", "pretraining", "flops"), help="this one alone")
    given = parser.parse_args()
    if given.step is None:
        with tempfile.TemporaryDirectory() as temporary:
            print(json.dumps(measure(given, given.folder or Path(temporary))))
        return
    steps = {
        "shards": lambda: shards(given.folder, given.clicks),
        "pretraining": lambda: pretraining(given.folder, given.steps, given.batch),
        "flops": lambda: flops(given.folder, given.batch),
    }
    if (found := steps[given.step]()) is not None:
        print(json.dumps(found))


def measure(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Each step in processes of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    module = ["-m", "benchmarks.training", "--folder", str(folder), "--clicks", str(given.clicks)]
    module += ["--steps", str(given.steps), "--batch", str(given.batch)]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found: dict[str, Any] = {}
    for name, options in {
        "shards": [*module, "--step", "shards"],
        "one_process": [*module, "--step", "pretraining"],
        "two_processes": [*two, *module, "--step", "pretraining"],
        "gpu": [*module, "--step", "flops"],
    }.items():
        environ = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        run = subprocess.run(
            [sys.executable, *options], env=environ, check=True, stdout=subprocess.PIPE, text=True
        )
        found[name] = json.loads(run.stdout.strip().splitlines()[-1])
        print(name, *(f"  {key}: {value}" for key, value in found[name].items()), sep="\n", flush=True)
    return found


if __name__ == "__main__":
    main()
