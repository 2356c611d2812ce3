from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from streamer.cli.recipe import Recipe, training_pipeline
from streamer.models.training.pipeline import TrainingPipeline, no_progress
from streamer.settings import Settings
from tests.models.hand_made import bank_sessions

SESSIONS = 240
_FIELDS = ("timestamp", "event_id", "event_type", "page_type", "search_query")


def pipeline_of(work: Path) -> TrainingPipeline:
    return training_pipeline(Recipe.load(work), work, Settings(), no_progress)


@pytest.fixture(scope="session")
def labelled_work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder as `streamer model fit`, `pretrain` and `taxonomy` leave it."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("labelled")
    clicks = [
        {"visitor_id": session.visitor_id, "page_url": f"https://bank.example{click.path}"}
        | {name: getattr(click, name) for name in _FIELDS}
        for session in bank_sessions(SESSIONS)
        for click in session.clicks
    ]
    (folder / "clicks.jsonl").write_bytes(b"\n".join(map(orjson.dumps, clicks)))
    Recipe.of(folder / "clicks.jsonl", seed=7, epochs=1, name=None).save(folder / "work")
    pipeline = pipeline_of(folder / "work")
    pipeline.fit()
    pipeline.pretrain()
    pipeline.teach()
    return folder / "work"
