"""A shadow bundle scores along on topics of its own and can't touch what is live."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from streamer.models.bundle import default_bundle, load_bundle
from streamer.settings import Settings, TopicSettings
from streamer.worker.shadow import Shadow
from tests.conftest import FreshSettings
from tests.models.hand_made import bank_sessions
from tests.worker.live import Worker, as_messages, committed, oracle, published, send, set_up, some_clicks


@pytest.fixture
def candidate(tmp_path: Path) -> Path:
    """The shipped bundle under another name."""
    bundle = tmp_path / "candidate"
    shutil.copytree(default_bundle(), bundle)
    manifest = bundle / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"name": "candidate"}))
    return bundle


def test_each_session_is_scored_by_both_and_each_bundle_has_its_topics(
    fresh_settings: FreshSettings, candidate: Path
) -> None:
    settings = fresh_settings({"model.shadow_bundle": str(candidate), "emit.reasons": True})
    clicks = some_clicks(60, seed=31)
    set_up(settings)
    send(settings, as_messages(clicks))
    worker = Worker(settings, "--drain")
    assert worker.end() == 0, worker.log
    assert published(settings) == oracle(clicks)
    for live, shadow in (("intents", "shadow_intents"), ("embeddings", "shadow_embeddings")):
        lives, shadows = _records(settings, live), _records(settings, shadow)
        assert {r["session_id"] for r in lives} == {r["session_id"] for r in shadows}
        assert {r["model_version"].partition("@")[0] for r in lives} == {"default"}
        assert {r["model_version"].partition("@")[0] for r in shadows} == {"candidate"}
    lives, shadows = (
        {r["session_id"]: r["reasons"] for r in _records(settings, feed)}
        for feed in ("intents", "shadow_intents")
    )
    assert lives == shadows
    assert None not in lives.values()
    assert {r["model_version"].partition("@")[0] for r in _records(settings, "visitors")} == {"default"}


def test_a_shadow_bundle_that_is_damaged_is_refused_at_the_start(
    fresh_settings: FreshSettings, candidate: Path
) -> None:
    (candidate / "classifier.onnx").write_bytes(b"\0")
    settings = fresh_settings({"model.shadow_bundle": str(candidate)})
    set_up(settings)
    worker = Worker(settings)
    assert worker.end() == 1
    assert "classifier.onnx" in worker.log


class BrokenScorer:
    bundle = load_bundle(default_bundle())

    def score(self, sessions: Any) -> Any:
        raise RuntimeError("out of memory")


def test_a_shadow_that_breaks_is_counted_and_says_nothing() -> None:
    failed: list[int] = []
    shadow = Shadow(BrokenScorer(), "0" * 8, TopicSettings(), failed.append)  # type: ignore[arg-type]
    assert asyncio.run(shadow.messages(bank_sessions(3))) == {}
    assert failed == [3]


def _records(settings: Settings, name: str) -> list[dict[str, Any]]:
    return committed(settings, getattr(settings.topics, name)).decoded()
