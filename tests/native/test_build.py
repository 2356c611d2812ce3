"""What may be compiled: one list, and what of it is missing is told."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamer.native import build
from streamer.native.build import EXTENSIONS, not_compiled

ROOT = Path(__file__).parents[2]
IN_SETUP = re.findall(r'^    "([\w.]+)",$', (ROOT / "setup.py").read_text(), re.MULTILINE)


def test_the_list_is_that_of_setup_py_and_of_the_sources() -> None:
    assert list(EXTENSIONS) == sorted(IN_SETUP)
    sources = {
        str(path.relative_to(ROOT))
        for folder in ("models", "schemas", "streamer")
        for path in (ROOT / folder).rglob("*.pyx")
    }
    assert {f"{name.replace('.', '/')}.pyx" for name in IN_SETUP} == sources


def test_a_worker_can_be_without_them_all() -> None:
    program = f"""
import sys
sys.modules.update(dict.fromkeys({EXTENSIONS}))
import streamer.worker.run
from streamer.native.build import not_compiled
print(not_compiled())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(done.stdout) == dict.fromkeys(EXTENSIONS, "")


def test_one_that_was_not_built_is_missing_and_one_that_refuses_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def find(name: str) -> Any:
        return None if name == "streamer.pipeline.lane" else True

    def load(name: str) -> None:
        assert name != "streamer.pipeline.lane"
        if name == "streamer.native.wire":
            raise ImportError("this processor can't")

    monkeypatch.setattr(build, "find_spec", find)
    monkeypatch.setattr(build, "import_module", load)
    assert not_compiled() == {"streamer.native.wire": "this processor can't", "streamer.pipeline.lane": ""}


def test_what_is_told_is_what_runs() -> None:
    """The names that hold an extension, or None in its place."""
    held = {
        "models.readings": ("models.scorer", "Readings"),
        "models.tokens": ("models.tokenizer", "tokens"),
        "schemas.flat_values": ("schemas.flat", "FlatValues"),
        "streamer.native.batch_records": ("streamer.kafka.aiokafka_overrides.fetched", "BatchRecords"),
        "streamer.core.ends": ("streamer.core.sessionizer", "WindowEnds"),
        "streamer.core.kept_clicks": ("streamer.core.session", "kept_clicks"),
        "streamer.native.wire": ("streamer.kafka.aiokafka_overrides.fetched", "wire"),
        "streamer.pipeline.lane": ("streamer.pipeline.partition", "Lane"),
        "streamer.pipeline.record_bytes": ("streamer.pipeline.records", "RecordBytes"),
        "streamer.pipeline.usual_clicks": ("streamer.pipeline.decode", "UsualClicks"),
    }
    assert set(held) == set(EXTENSIONS)
    runs_without = {
        name
        for name, (module, attribute) in held.items()
        if getattr(importlib.import_module(module), attribute) is None
    }
    assert runs_without == set(not_compiled())
