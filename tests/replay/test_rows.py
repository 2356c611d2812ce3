"""A file of rows has the same bytes however its parts were cut, and gives the sessions back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from streamer import sample
from streamer.core.rules import SessionRules
from streamer.models.bundle import default_bundle
from streamer.replay import rows as rows_module
from streamer.replay.file_source import sessions_of_file
from streamer.replay.rows import join_rows, labelled_rows, sessions_of_rows, table_of, write_rows
from streamer.replay.scoring import BundleScorers, ScoredSession
from streamer.schemas import codec


@pytest.fixture(scope="module")
def scorers() -> BundleScorers:
    return BundleScorers.load([default_bundle()], "r")


@pytest.fixture(scope="module")
def scored(scorers: BundleScorers) -> list[ScoredSession]:
    return scorers.score(sessions_of_file(sample.path(), SessionRules()).sessions[:100])


def joined(
    folder: Path, name: str, scorers: BundleScorers, scored: list[ScoredSession], cuts: list[int]
) -> Path:
    parts = []
    for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, len(scored)], strict=True)):
        parts.append(folder / f"{name}-{number}.parquet")
        write_rows(parts[-1], table_of(scored[begin:end], scorers.bundles, "r"))
    out = folder / f"{name}.parquet"
    assert join_rows(parts, out) == len(scored)
    return out


@pytest.mark.parametrize("group", [7, 10, 1000])
def test_the_bytes_do_not_depend_on_where_parts_were_cut(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scorers: BundleScorers,
    scored: list[ScoredSession],
    group: int,
) -> None:
    monkeypatch.setattr(rows_module, "ROW_GROUP", group)
    whole = joined(tmp_path, "whole", scorers, scored, [])
    for cuts in ([50], [1, 2, 3, 99], [7, 14, 70], [33, 33]):
        assert joined(tmp_path, "cut", scorers, scored, cuts).read_bytes() == whole.read_bytes()


def test_memberships_are_told_with_their_version_where_asked_for(scored: list[ScoredSession]) -> None:
    asked = BundleScorers.load([default_bundle()], "r", memberships=True)
    (prototypes,) = [bundle.prototypes for bundle in asked.bundles]
    assert prototypes is not None
    told = table_of(asked.score([each.session for each in scored]), asked.bundles, "r").to_pydict()
    assert {len(shares) for shares in told["memberships"]} == {len(prototypes)}
    assert set(told["prototypes_version"]) == {prototypes.version}
    silent = table_of(scored, asked.bundles, "r").to_pydict()
    assert set(silent["memberships"]) == set(silent["prototypes_version"]) == {None}


def test_reasons_are_told_where_asked_for(scored: list[ScoredSession]) -> None:
    asked = BundleScorers.load([default_bundle()], "r", reasons=True)
    rescored = asked.score([each.session for each in scored])
    told = table_of(rescored, asked.bundles, "r").to_pydict()["reasons"]
    for each, row in zip(rescored, told, strict=True):
        (output,) = each.outputs
        assert output is not None
        record = codec.decode(output.records.intent)[1]
        assert row == record["reasons"] == codec.decode(output.records.visitor)[1]["reasons"]
    assert any(told)
    assert set(table_of(scored, asked.bundles, "r").to_pydict()["reasons"]) == {None}


def test_sessions_come_back_to_the_last_field(
    tmp_path: Path, scorers: BundleScorers, scored: list[ScoredSession]
) -> None:
    out = joined(tmp_path, "all", scorers, scored, [40])
    assert list(sessions_of_rows(out)) == [each.session for each in scored]


def test_no_session_at_all_is_a_file_without_rows(tmp_path: Path) -> None:
    assert join_rows([], tmp_path / "none.parquet") == 0
    assert list(sessions_of_rows(tmp_path / "none.parquet")) == []


def test_a_revised_session_counts_once_as_its_last_revision(
    tmp_path: Path, scorers: BundleScorers, scored: list[ScoredSession]
) -> None:
    again, untouched, merged, *_ = [each.session for each in scored]
    revised = [replace(again, revision=number, closed_at=again.closed_at + number) for number in (1, 2)]
    earlier = replace(merged, session_id="begins-earlier", revision=1, supersedes=merged.session_id)
    records = [again, revised[0], untouched, merged, revised[1], earlier]
    out = joined(tmp_path, "revised", scorers, scorers.score(records), [])
    assert list(sessions_of_rows(out)) == [untouched, revised[1], earlier]
    (space,) = {bundle.embedding_space for bundle in scorers.bundles}
    named = {each for rows in labelled_rows(out, space) for each in rows.session_ids}
    assert merged.session_id not in named
    assert sum(len(rows.session_ids) for rows in labelled_rows(out, space)) == len(named)
