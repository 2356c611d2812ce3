"""A taxonomy that people have edited, and split, goes on through distillation into a bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from streamer.models.bundle import load_bundle
from streamer.models.labelling import taxonomy_edits as edits
from streamer.models.taxonomy import Edit, next_version
from streamer.models.training.config import TrainConfig
from streamer.models.training.errors import TrainingError
from streamer.models.training.pipeline import TrainingPipeline
from streamer.models.training.relabel import Division
from streamer.models.training.work_folder import WorkFolder
from tests.models.conftest import SMALL
from tests.models.hand_made import bank_sessions

CONFIG = TrainConfig(name="small", **SMALL)  # type: ignore[arg-type]
EDIT = Edit("2026-11-30T09:30:00Z", "A. Reviewer", ("split an intent",))


@pytest.fixture
def work(small_bundle_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_bundle_path.parent / "work", tmp_path / "work"))


def split_in_half(folder: WorkFolder) -> str:
    """The id of what was split."""
    made, given = folder.taxonomy(), folder.given_labels()
    whole = made.intents[0].id
    taxonomy, parts = edits.split(made, whole, ("One half", "The other half"), ((), ()))
    halves = (np.arange(len(each.rows)) % 2 for each in (given.train, given.validation))
    taxonomy = replace(taxonomy, version=next_version(made.version), edits=(EDIT,))
    folder.put_edited(taxonomy, [Division(whole, parts, *halves)])
    return whole


def test_a_split_intent_is_learnt_as_two_and_the_manifest_says_who_did_it(work: Path, tmp_path: Path) -> None:
    folder = WorkFolder(work)
    digest, whole = folder.labels_digest(), split_in_half(folder)
    assert folder.labels_digest() != digest
    taxonomy, train, _ = folder.labels()
    halves = [k for k, intent in enumerate(taxonomy.intents) if intent.label.endswith("half")]
    shown = train.probabilities[:, halves].sum(0)
    assert shown.min() > 0.3 * shown.sum()
    pipeline = TrainingPipeline.of(bank_sessions(400), CONFIG, work)
    pipeline.distill()
    pipeline.export(tmp_path / "bundle", {})
    bundle = load_bundle(tmp_path / "bundle")
    assert whole in bundle.taxonomy.retired
    assert bundle.taxonomy.edits == (EDIT,)
    assert bundle.manifest.metrics["taxonomy"]["edits"][0]["by"] == "A. Reviewer"


def test_what_was_split_is_whole_again_once_the_teacher_has_labelled_anew(work: Path) -> None:
    folder = WorkFolder(work)
    split_in_half(folder)
    TrainingPipeline.of(bank_sessions(400), CONFIG, work).teach()
    assert folder.divisions(folder.given_labels()) == []
    folder.labels()


def test_divisions_of_other_labels_are_said(work: Path) -> None:
    folder = WorkFolder(work)
    made = folder.taxonomy()
    short = np.zeros(3, np.int64)
    taxonomy, parts = edits.split(made, made.intents[0].id, ("a", "b"), ((), ()))
    folder.put_edited(taxonomy, [Division(made.intents[0].id, parts, short, short)])
    with pytest.raises(TrainingError, match=r"divisions\.npz is of other labels; run the step 'taxonomy'"):
        folder.labels()
