from __future__ import annotations

from pathlib import Path

import pytest

from streamer.models.bundle import Bundle, load_bundle
from streamer.models.scorer import Scorer
from tests.models.hand_made import bank_sessions

SMALL = {
    "dim": 16,
    "heads": 2,
    "hidden": 32,
    "epochs": 6,
    "batch": 32,
    "learning_rate": 5e-3,
    "min_count": 3,
    "min_term_visitors": 3,
    "taxonomy_sample": 300,
    "max_intents": 6,
    "halves": 2,
    "head_epochs": 20,
    "head_batch": 32,
    "head_hidden": 32,
}
"""A training configuration that takes seconds."""


@pytest.fixture(scope="session")
def small_bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle trained end to end on a few hundred sessions made by hand."""
    pytest.importorskip("torch")
    from streamer.models.training.config import TrainConfig
    from streamer.models.training.pipeline import TrainingPipeline

    folder = tmp_path_factory.mktemp("small")
    config = TrainConfig(name="small", **SMALL)  # type: ignore[arg-type]
    TrainingPipeline.of(bank_sessions(400), config, folder / "work").run(
        folder / "bundle", {"source": "hand"}
    )
    return folder / "bundle"


@pytest.fixture(scope="session")
def small_bundle(small_bundle_path: Path) -> Bundle:
    return load_bundle(small_bundle_path)


@pytest.fixture(scope="session")
def small_scorer(small_bundle: Bundle) -> Scorer:
    return Scorer(small_bundle)
