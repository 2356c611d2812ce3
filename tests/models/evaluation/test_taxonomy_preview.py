"""What an edited taxonomy would do, on a small model's own sessions and labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamer.models.evaluation.taxonomy_preview import Draft, LabelledSessions
from streamer.models.labelling import taxonomy_edits as edits
from streamer.models.labelling.taxonomy_edits import RefusedEditError
from streamer.models.labelling.teacher import SoftLabels
from streamer.models.taxonomy import Intent, Parent, Taxonomy
from streamer.models.training.config import TrainConfig
from streamer.models.training.pipeline import TrainingPipeline
from streamer.models.training.relabel import Division, GivenLabels
from tests.models.conftest import SMALL
from tests.models.hand_made import a_click, a_session, bank_sessions


@pytest.fixture(scope="module")
def pipeline(small_bundle_path: Path) -> TrainingPipeline:
    config = TrainConfig(name="small", **SMALL)  # type: ignore[arg-type]
    return TrainingPipeline.of(bank_sessions(400), config, small_bundle_path.parent / "work")


@pytest.fixture(scope="module")
def labelled(pipeline: TrainingPipeline) -> LabelledSessions:
    return LabelledSessions.of(pipeline)


@pytest.fixture(scope="module")
def made(pipeline: TrainingPipeline) -> Draft:
    return Draft(pipeline.folder.taxonomy(), ())


def test_a_merged_intent_has_the_sessions_of_both_and_a_retired_one_leaves_them_out(
    labelled: LabelledSessions, made: Draft
) -> None:
    before = labelled.shares(made)
    assert sum(before.counts.values()) == len(labelled.train.sessions) + len(labelled.validation.sessions)
    assert before.left_out == 0
    one, other = sorted(before.counts, key=lambda intent: -before.counts[intent])[:2]
    merged = made._replace(taxonomy=edits.merge(made.taxonomy, one, other))
    assert labelled.shares(merged).counts[other] >= before.counts[one] + before.counts[other]
    retired = labelled.shares(made._replace(taxonomy=edits.retire(made.taxonomy, one)))
    assert sum(retired.counts.values()) + retired.left_out == sum(before.counts.values())


def test_an_intent_of_two_topics_is_split_into_them() -> None:
    """Embeddings of two topics are two points; half of the sessions have a little of something else."""
    sessions = [
        a_session(a_click(0, path="/loans/rates" if n % 3 else "/cards/gold"), visitor_id=f"v{n}")
        for n in range(90)
    ]
    topics = np.array([n % 3 > 0 for n in range(90)])
    points = np.where(topics[:, None], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]).astype(np.float32)
    soft = SoftLabels(np.arange(90), np.tile(np.array([[0.9, 0.1]], np.float32), (90, 1)))
    taxonomy = Taxonomy(
        1, "1", "keyless", (Parent("p", "P"),), tuple(Intent(i, i, "p") for i in ("mixed", "b"))
    )
    given = GivenLabels(("mixed", "b"), "1", soft, soft)
    found = LabelledSessions.of_splits(
        given, (sessions, sessions), lambda some: points[: len(some)], TrainConfig(min_term_visitors=5)
    )
    parts = found.split(Draft(taxonomy, ()), "mixed")
    assert [intent.label for intent in parts.taxonomy.intents] == ["loans / rates", "cards / gold", "b"]
    assert found.shares(parts).counts == {"loans-rates": 120, "cards-gold": 60, "b": 0}
    np.testing.assert_array_equal(parts.divisions[0].train, ~topics)
    assert found.examples(parts, "cards-gold", 2) == [sessions[0], sessions[3]]
    with pytest.raises(RefusedEditError, match="'b' has 0 sessions to learn from, expected 20"):
        found.split(parts, "b")
    with pytest.raises(RefusedEditError, match="all alike"):
        found.split(parts, "loans-rates")


def test_the_same_draft_gives_the_same_figures(labelled: LabelledSessions, made: Draft) -> None:
    one, two = labelled.preview(made), labelled.preview(made)
    assert one == two
    assert one.accuracy.low <= one.accuracy.value <= one.accuracy.high
    assert one.sessions == len(labelled.validation.sessions)
    assert one.visitors == len({each.visitor_id for each in labelled.validation.sessions})


def test_what_is_confused_is_worth_merging(labelled: LabelledSessions, made: Draft) -> None:
    """Half of an intent's sessions, chosen by chance, can't be told from the other half."""
    whole = made.taxonomy.intents[0].id
    taxonomy, parts = edits.split(made.taxonomy, whole, ("One", "Two"), ((), ()))
    rng = np.random.default_rng(0)
    halves = [rng.integers(2, size=len(each.rows)) for each in labelled.given[2:]]
    torn = Draft(taxonomy, (Division(whole, parts, *halves),))
    preview = labelled.preview(torn)
    assert preview.confusions[0].intents == parts
    assert preview.confusions[0].times == max(each.times for each in preview.confusions)
    merged = torn._replace(taxonomy=edits.merge(taxonomy, *parts))
    assert labelled.preview(merged).accuracy.value > preview.accuracy.value


def test_a_taxonomy_of_which_no_session_has_an_intent_is_refused(
    labelled: LabelledSessions, made: Draft
) -> None:
    hard = np.eye(len(labelled.given.ids), dtype=np.float32)[:1]
    only = [SoftLabels(each.rows[:1], hard) for each in labelled.given[2:]]
    few = replace(labelled, given=labelled.given._replace(train=only[0], validation=only[1]))
    with pytest.raises(RefusedEditError, match="no labelled session has one"):
        few.shares(made._replace(taxonomy=edits.retire(made.taxonomy, labelled.given.ids[0])))
