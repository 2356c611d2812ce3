"""Sites without paths, page types or queries train too: the beginnings of public clickstreams.

Runs where CLICKS_DATA names the folder that has them.
"""

from __future__ import annotations

import gzip
import os
from itertools import islice
from pathlib import Path

import pytest

from streamer.core.rules import SessionRules
from streamer.models.bundle import load_bundle
from streamer.models.scorer import Scored, Scorer
from streamer.models.training.config import TrainConfig
from streamer.models.training.pipeline import TrainingPipeline
from streamer.replay.file_source import sessions_of_file
from tests.models.conftest import SMALL

CLICKS_DATA = os.environ.get("CLICKS_DATA")
CLICKS = 4000


@pytest.mark.skipif(not CLICKS_DATA, reason="CLICKS_DATA is not set")
@pytest.mark.parametrize("site", ["trivago", "shop1999", "eshop2008"])
def test_a_real_clickstream_trains_a_bundle_that_scores_it(site: str, tmp_path: Path) -> None:
    with gzip.open(Path(str(CLICKS_DATA)) / f"{site}.events.jsonl.gz", "rb") as lines:
        (tmp_path / "clicks.jsonl").write_bytes(b"".join(islice(lines, CLICKS)))
    sessions = sessions_of_file(tmp_path / "clicks.jsonl", SessionRules()).sessions
    config = TrainConfig(name=site, **(SMALL | {"epochs": 1, "batch": 64}))  # type: ignore[arg-type]
    TrainingPipeline.of(sessions, config, tmp_path / "work").run(tmp_path / "bundle", {"source": site})
    bundle = load_bundle(tmp_path / "bundle")
    results = Scorer(bundle).score(sessions)
    assert all(isinstance(result, Scored) for result in results)
    assert sum(len(v.values) for v in bundle.tokenizer.vocabularies.values()) > 5
