"""The simulator's intents renamed to random strings: the same taxonomy and labels come out."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

from streamer.core.rules import SessionRules
from streamer.models.simulator import Catalogue, SimulatorConfig, load_catalogue, simulate
from streamer.models.simulator.files import write_table
from streamer.models.training.config import TrainConfig
from streamer.models.training.pipeline import TrainingPipeline
from streamer.replay.file_source import sessions_of_file
from tests.models.conftest import SMALL

WORLD = SimulatorConfig(seed=5, visitors=150)


def renamed(catalogue: Catalogue) -> Catalogue:
    rng = random.Random(1)

    def nonsense() -> str:
        return "".join(rng.choices("bcdfghjklmnpqrstvwxz", k=12))

    return replace(
        catalogue,
        parents=tuple(replace(parent, name=nonsense()) for parent in catalogue.parents),
        intents=tuple(replace(intent, name=nonsense()) for intent in catalogue.intents),
    )


def bundle_of(catalogue: Catalogue, folder: Path) -> tuple[dict[str, bytes], set[str]]:
    """The trained bundle's files, and the names that the truth has."""
    simulated = simulate(WORLD, catalogue)
    folder.mkdir()
    write_table(simulated.clicks(), folder / "clicks.jsonl.gz")
    sessions = sessions_of_file(folder / "clicks.jsonl.gz", SessionRules()).sessions
    config = TrainConfig(name="small", **(SMALL | {"epochs": 2}))  # type: ignore[arg-type]
    TrainingPipeline.of(sessions, config, folder / "work").run(folder / "bundle", {"source": "simulator"})
    names = {name for row in simulated.sessions() for name in (*row["intents"], *row["parents"])}
    return {path.name: path.read_bytes() for path in (folder / "bundle").iterdir()}, names


def test_names_of_latent_intents_make_no_difference(tmp_path: Path) -> None:
    plain, names = bundle_of(load_catalogue(), tmp_path / "plain")
    other, other_names = bundle_of(renamed(load_catalogue()), tmp_path / "renamed")
    assert not names & other_names
    assert len(names) > 8
    assert plain == other
