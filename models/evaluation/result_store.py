"""Results of steps as JSON files, so that a run that was stopped can resume.

A file's name has a hash of the step's config, and the file has the config itself: another config never finds
it. A file is there whole or not at all. Arrays too large for JSON are stored apart, in the cache.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamer.models.whole_file import whole_file, write_whole

Config = Mapping[str, Any]
Arrays = dict[str, np.ndarray[Any, Any]]

RULES = 1
"""Part of every key; raised when the protocol changes the results of a step."""


def say_nothing(_line: str) -> None:
    pass


class MissingResultError(Exception):
    """A result that isn't there and can't be made, or isn't to be."""


@dataclass(frozen=True)
class ResultStore:
    results: Path
    cache: Path
    say: Callable[[str], None] = say_nothing
    known_only: bool = False
    """Raises MissingResultError instead of computing."""

    def result(self, step: str, config: Config, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The stored result of this step and config, else that of `compute`."""
        path = self.results / f"{step}-{key_of(step, config)}.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["result"]
            return found
        if self.known_only:
            raise MissingResultError(step)
        begun, cpu = time.monotonic(), time.process_time()
        result: dict[str, Any] = json.loads(json.dumps(rounded(compute())))
        spent = {
            "seconds": round(time.monotonic() - begun, 1),
            "cpu_seconds": round(time.process_time() - cpu, 1),
        }
        document = {"step": step, "config": dict(config), **spent, "result": result}
        write_whole(path, (json.dumps(document, indent=1) + "\n").encode())
        self.say(f"{step}: {spent['seconds']} s")
        return result

    def arrays(self, step: str, config: Config, compute: Callable[[], Arrays]) -> Arrays:
        """As `result`, of arrays in the cache."""
        path = self.cache / f"{step}-{key_of(step, config)}.npz"
        if not path.is_file():
            begun = time.monotonic()
            found = compute()
            with whole_file(path) as file:
                np.savez(file, allow_pickle=False, **found)
            self.say(f"{step}: {time.monotonic() - begun:.1f} s")
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


def key_of(step: str, config: Config) -> str:
    canonical = json.dumps([RULES, step, dict(config)], sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:10]


def rounded(value: Any) -> Any:
    """Floats to six significant digits, numpy's numbers as Python's, what is no number as null."""
    if isinstance(value, Mapping):
        return {str(name): rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
