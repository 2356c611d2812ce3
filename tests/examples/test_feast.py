"""The feature repository for Feast, with the real Feast in an environment of its own (`make feast`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamer.schemas import codec
from streamer.settings import Settings
from tests.client.records import NOW_MS, a_message, a_record, a_user
from tests.conftest import ROOT, RunStreamer
from tests.sink.kills import own_settings
from tests.sink.live import RedisServer, publish

PYTHON = ROOT / ".venv" / "feast" / "bin" / "python"
HOUR_MS = 3_600_000
ASK = """
import json, sys
import pandas as pd
from feast import FeatureStore

asked = json.load(sys.stdin)
store = FeatureStore(".")
found = {}
for view, key in (("visitor_intents", "visitor_id"), ("user_intents", "user_id")):
    features = [f"{view}:top_intent", f"{view}:embedding", f"{view}:event_count", f"{view}:abstained"]
    decisions = pd.DataFrame(asked[view], columns=[key, "at"])
    decisions["event_timestamp"] = pd.to_datetime(decisions.pop("at"), unit="ms", utc=True)
    known = store.get_historical_features(entity_df=decisions, features=features).to_df()
    known = known.sort_values([key, "event_timestamp"])
    now = store.get_online_features(features=features, entity_rows=[{key: k} for k in asked[key]]).to_dict()
    found[view] = {"then": known["top_intent"].tolist(), "now": now}
print(json.dumps(found, default=list))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, keeps=False)
    yield server
    server.kill()


@pytest.fixture
def settings(bootstrap: str, tmp_path: Path, server: RedisServer) -> Settings:
    return own_settings(bootstrap, **{"redis.url": server.url, "parquet.folder": tmp_path / "lake"})


@pytest.fixture
def repository(tmp_path: Path, settings: Settings) -> Path:
    """The example, with the test's server."""
    folder = tmp_path / "feast"
    shutil.copytree(ROOT / "examples" / "feast", folder, ignore=shutil.ignore_patterns("data", "__pycache__"))
    config = folder / "feature_store.yaml"
    text = config.read_text()
    assert "redis://127.0.0.1:6379/0" in text
    config.write_text(text.replace("redis://127.0.0.1:6379/0", settings.sink.redis.url))
    return folder


def in_feast(folder: Path, *arguments: str, given: Any = None) -> str:
    done = subprocess.run(
        [str(PYTHON), *arguments],
        cwd=folder,
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "FEAST_USAGE": "False"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.skipif(not PYTHON.exists(), reason="Feast is not installed: make feast")
def test_a_decision_sees_what_had_closed_before_it_and_the_erased_are_gone(
    settings: Settings, repository: Path, run_streamer: RunStreamer
) -> None:
    topics, now_ms = settings.topics, NOW_MS
    early, late = (a_record("v1", now_ms + n * HOUR_MS, user_id="u1", top_intent=f"at-{n}") for n in (0, 2))
    publish(
        settings,
        [
            *((topics.visitors, None, b"v1", codec.encode("visitor_intent", each)) for each in (early, late)),
            (topics.visitors, None, *a_message("v2", now_ms)),
            (topics.users, None, *a_user("u1", early)),
            (topics.users, None, *a_user("u1", early, late)),
            *((topics.visitors, number, b"v2", None) for number in range(topics.partitions)),
        ],
    )
    for kind in ("parquet", "redis"):
        done = run_streamer("sink", kind, "--drain", settings=settings)
        assert done.returncode == 0, done.stderr
    made = in_feast(repository, "from_lake.py", str(settings.sink.parquet.folder))
    assert made == "sessions: 2 rows\nusers: 2 rows\n"
    in_feast(repository, str(PYTHON.with_name("feast")), "apply")
    times = [now_ms - HOUR_MS, now_ms + HOUR_MS, now_ms + 3 * HOUR_MS]
    asked = {
        "visitor_intents": [["v1", at] for at in times],
        "user_intents": [["u1", at] for at in times],
        "visitor_id": ["v1", "v2"],
        "user_id": ["u1", "nobody"],
    }
    found = json.loads(in_feast(repository, "-c", ASK, given=asked))
    for view in ("visitor_intents", "user_intents"):
        # Feast's own file store leaves out a decision before which there was nothing.
        assert found[view]["then"] == ["at-0", "at-2"]
        online = found[view]["now"]
        assert online["top_intent"] == ["at-2", None]
        assert online["embedding"] == [[1.0, 0.5], None]
        assert online["event_count"] == [3, None]
        assert online["abstained"] == [False, None]


@pytest.mark.parametrize(
    ("manifest", "said"), [(None, "no manifest.json"), ('{"files": []}', "no sessions yet")]
)
def test_without_rows_there_is_nothing_to_make_features_of(
    tmp_path: Path, manifest: str | None, said: str
) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    program = ROOT / "examples" / "feast" / "from_lake.py"
    done = subprocess.run(
        [sys.executable, program, tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path}: {said}")
