"""What a review makes of a taxonomy on disk, without a browser."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from streamer.models.evaluation.taxonomy_preview import LabelledSessions
from streamer.models.labelling.taxonomy_edits import RefusedEditError
from streamer.models.taxonomy import Edit, to_json
from streamer.models.training.work_folder import WorkFolder
from streamer.review.draft import ChangedOnDiskError, Review
from tests.review.conftest import pipeline_of

NOW_S = 1_795_046_400.0


@pytest.fixture(scope="module")
def labelled(labelled_work: Path) -> LabelledSessions:
    return LabelledSessions.of(pipeline_of(labelled_work))


@pytest.fixture
def review(labelled: LabelledSessions, labelled_work: Path, tmp_path: Path) -> Review:
    folder = WorkFolder(Path(shutil.copytree(labelled_work, tmp_path / "work")))
    return Review(folder, labelled, lambda: NOW_S)


def ids(review: Review) -> list[str]:
    return [intent.id for intent in review.draft.taxonomy.intents]


def test_what_is_saved_is_the_file_that_people_edit_with_who_when_and_what(review: Review) -> None:
    one, other, *_ = ids(review)
    label = review.name_of(one)
    review.rename(one, "Mortgages", "")
    review.merge(other, one)
    assert review.folder.taxonomy() == review.saved.taxonomy
    review.save("  A. Reviewer ")
    taxonomy, train, _ = review.folder.labels()
    assert (taxonomy.version, taxonomy.retired) == ("2", (other,))
    (edit,) = taxonomy.edits
    assert (edit.at, edit.by, edit.what[0]) == (
        "2026-11-19T00:00:00Z",
        "A. Reviewer",
        f"{label} renamed to Mortgages",
    )
    assert train.probabilities.shape[1] == len(taxonomy.intents)
    assert review.steps == []
    review.rename(one, "Mortgages", "They compare rates.")
    review.save("B. Reviewer")
    again = review.folder.taxonomy()
    assert (again.version, [each.by for each in again.edits]) == ("2", ["A. Reviewer", "B. Reviewer"])
    assert again.edits[1] == Edit(
        "2026-11-19T00:00:00Z", "B. Reviewer", (f"Mortgages ({one}) described anew",)
    )


def test_undo_gives_back_what_was_there_step_by_step(review: Review) -> None:
    one, other, *_ = ids(review)
    drafts = [review.draft]
    for change in (
        lambda: review.move_to_new_parent(one, "Homes"),
        lambda: review.retire(other),
        lambda: review.rename(one, "Houses", None),
    ):
        change()
        drafts.append(review.draft)
    asyncio.run(review.split(one))
    assert len(review.steps) == 4
    for before in reversed(drafts):
        review.undo()
        assert review.draft == before
        assert review.shares == review.labelled.shares(before)
    review.undo()
    assert review.draft is review.saved


def test_a_change_that_changes_nothing_is_none(review: Review) -> None:
    intent = review.draft.taxonomy.intents[0]
    review.rename(intent.id, intent.label, intent.description)
    review.move(intent.id, intent.parent)
    assert review.steps == []
    with pytest.raises(RefusedEditError, match="nothing has been changed"):
        review.save("A. Reviewer")


def test_what_was_split_is_split_when_it_is_read_again(review: Review) -> None:
    parts = asyncio.run(review.split(ids(review)[0]))
    counts = review.shares.counts
    assert min(counts[part] for part in parts) > 0
    review.save("A. Reviewer")
    assert review.shares.counts == counts
    assert review.share_before(parts[0]) == pytest.approx(counts[parts[0]] / sum(counts.values()))
    review.merge(*parts)
    review.save("A. Reviewer")
    assert review.folder.taxonomy().version == "3"


def test_what_somebody_else_has_written_meanwhile_is_kept(review: Review) -> None:
    review.rename(ids(review)[0], "Mine", None)
    path = review.folder.path / "taxonomy.json"
    theirs = to_json(review.saved.taxonomy).replace(review.saved.taxonomy.intents[0].label, "Theirs")
    path.write_text(theirs)
    with pytest.raises(ChangedOnDiskError):
        review.save("A. Reviewer")
    assert path.read_text() == theirs
    assert review.steps
    review.load()
    assert (review.draft.taxonomy.intents[0].label, review.steps) == ("Theirs", [])


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\x1b[31m"])
def test_who_saves_has_a_name(review: Review, name: str) -> None:
    review.retire(ids(review)[0])
    with pytest.raises(RefusedEditError, match=r"expected 1 to 100, all printable"):
        review.save(name)
    assert review.folder.taxonomy() == review.saved.taxonomy


def test_accuracy_is_that_of_the_draft_or_not_known(review: Review) -> None:
    asyncio.run(review.measure())
    assert review.measured is not None
    assert review.measured.before == review.measured.after
    review.merge(*ids(review)[:2])
    assert review.measured is None
    asyncio.run(review.measure())
    assert review.measured is not None
    assert review.measured.after == review.labelled.preview(review.draft)
    assert review.measured.before == review.labelled.preview(review.saved)
