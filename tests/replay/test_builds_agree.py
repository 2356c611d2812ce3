"""The compiled build and pure Python are one program."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streamer.schemas.build import NO_EXTENSIONS
from tests.conftest import ROOT, RunStreamer

SAMPLE = ROOT / "streamer/sample/clicks.jsonl.gz"


@pytest.mark.compiled
def test_both_builds_give_the_same_digests_of_a_whole_replay(run_streamer: RunStreamer) -> None:
    def digests(no_extensions: str) -> Any:
        environ = {NO_EXTENSIONS: no_extensions}
        done = run_streamer("replay", "--source", str(SAMPLE), "--json", environ=environ, timeout_s=120)
        assert done.returncode == 0, done.stderr
        (bundle,) = json.loads(done.stdout)["bundles"]
        return bundle["digests"]

    compiled = digests("")
    assert compiled["intents"]["count"] == 497  # all sessions of the sample
    assert digests("1") == compiled
