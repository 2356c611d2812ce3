"""Sessions that few sites have, and every site has somewhere: training works, or says what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from streamer.models.bundle import load_bundle
from streamer.models.scorer import Scored, Scorer
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import by_split
from streamer.models.training.errors import TrainingError
from streamer.models.training.pipeline import TrainingPipeline
from streamer.schemas.click import Click, Session
from tests.models.conftest import SMALL
from tests.models.hand_made import a_click, a_session, bank_sessions

CONFIG = TrainConfig(name="odd", **(SMALL | {"epochs": 1, "head_epochs": 4}))  # type: ignore[arg-type]
MakeClick = Callable[[int, int], Click]


def sessions_of(click: MakeClick, count: int = 90, length: int = 4) -> list[Session]:
    """`click(session, number)` for each click; a visitor a session."""
    return [
        a_session(*(click(i, j) for j in range(length)), visitor_id=f"v{i}", session_id=f"{i:032x}")
        for i in range(count)
    ]


ODD: dict[str, list[Session]] = {
    "every value is seen once only": sessions_of(
        lambda i, j: a_click(
            j, event_id=f"{i}-{j}", path=f"/p{i}/q{j}", element=f"e{i}{j}", page_type=f"t{i}"
        )
    ),
    "nothing but event types": sessions_of(lambda i, j: a_click(j)),
    "far more values than a vocabulary takes": sessions_of(
        lambda i, j: a_click(j, path=f"/p{(i * 64 + j) % 9000}", product_id=f"{i % 7}"), count=200, length=64
    ),
    "values of a thousand characters": sessions_of(
        lambda i, j: a_click(j, path="/" + "x" * 1000 + str(i % 3))
    ),
    "lone surrogates and emoji": sessions_of(
        lambda i, j: a_click(j, path="/\ud800" if i % 2 else "/💳", search_query="\udfff karte")
    ),
    "queries only": sessions_of(lambda i, j: a_click(j, event_type="search", search_query=f"loan {i % 4}")),
    "all clicks at the same moment": sessions_of(lambda i, j: a_click(0, event_id=f"{j}", path=f"/p{j}")),
    "dwell times without end": sessions_of(lambda i, j: a_click(j, path=f"/{i % 3}", dwell_ms=2**53)),
    "one very long session among short ones": [
        *sessions_of(lambda i, j: a_click(j, path=f"/{i % 3}"), length=1),
        *sessions_of(lambda i, j: a_click(j, path=f"/{j % 3}"), count=1, length=64),
    ],
}


@pytest.mark.parametrize("name", ODD)
def test_it_trains_a_bundle_that_scores_the_sessions(name: str, tmp_path: Path) -> None:
    sessions = ODD[name]
    TrainingPipeline.of(sessions, CONFIG, tmp_path / "work").run(tmp_path / "bundle", {"source": "hand"})
    results = Scorer(load_bundle(tmp_path / "bundle")).score(sessions)
    assert all(isinstance(result, Scored) for result in results)


def test_bots_only_are_nobody_to_learn_from(tmp_path: Path) -> None:

    bots = [replace(session, is_bot=True) for session in bank_sessions(100)]
    with pytest.raises(TrainingError, match="too few sessions of people"):
        TrainingPipeline.of(bots, CONFIG, tmp_path)


def test_a_visitor_whose_sessions_come_twice_stays_in_one_split() -> None:
    splits = by_split(bank_sessions(200) + bank_sessions(200, seed=5))
    visitors = {split: {s.visitor_id for s in sessions} for split, sessions in splits.items()}
    assert not visitors["train"] & visitors["validation"]
    assert not visitors["train"] & visitors["test"]
    assert not visitors["validation"] & visitors["test"]


def test_the_order_of_the_input_changes_nothing(tmp_path: Path) -> None:
    sessions = bank_sessions(90)
    digests = []
    for name, given in (("forward", sessions), ("backward", sessions[::-1])):
        TrainingPipeline.of(given, CONFIG, tmp_path / name).run(
            tmp_path / f"{name}.bundle", {"source": "hand"}
        )
        digests.append(load_bundle(tmp_path / f"{name}.bundle").model_version)
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", ["labels.npz", "head.npz", "encoder.npz"])
def test_a_damaged_result_of_a_step_says_which_step_to_run_again(
    small_bundle_path: Path, tmp_path: Path, name: str
) -> None:
    work = shutil.copytree(small_bundle_path.parent / "work", tmp_path / "work")
    (work / name).write_bytes(b"PK\x03\x04 not really")
    pipeline = TrainingPipeline.of(bank_sessions(400), TrainConfig(name="small", **SMALL), work)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match=f"{name} can't be read.*run the step"):
        pipeline.export(tmp_path / "bundle", {}) if name == "head.npz" else pipeline.distill()
