"""A table of Iceberg as the sink writes it, in a catalogue of SQLite: commits, columns, files, snapshots."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog, load_catalog

from streamer.sink import lake_files
from streamer.sink.iceberg_table import IcebergTable, TableState
from streamer.sink.lake_manifest import Erasure, LakePosition
from streamer.sink.store import Change, StoreError
from tests.client.records import NOW_MS, a_record


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return load_catalog(
        "streamer", type="sql", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}"
    )


def sessions_of(catalog: Catalog) -> IcebergTable:
    return IcebergTable(catalog, "streamer", "sessions", create=True)


def state_at(offset: int, *erasures: Erasure) -> TableState:
    return TableState({"visitors": {"0": LakePosition(offset, 0, None, 0, {})}}, erasures)


def append(table: IcebergTable, *offsets: int) -> None:
    """A session at each of these offsets of partition 0."""
    rows = [
        lake_files.row_of(0, Change(offset, NOW_MS, f"v{offset}", a_record(f"v{offset}")))
        for offset in offsets
    ]
    table.append({lake_files.part_of("sessions", rows[0]): rows}, state_at(offsets[-1] + 1))


def offsets_in(catalog: Catalog) -> list[int]:
    rows = catalog.load_table("streamer.sessions").scan(selected_fields=("topic_offset",)).to_arrow()
    return sorted(rows["topic_offset"].to_pylist())


def test_a_table_that_is_opened_again_stands_where_it_was_committed(catalog: Catalog) -> None:
    append(sessions_of(catalog), 0, 1)
    waiting = Erasure("sessions", "v0", 0, 3, NOW_MS)
    sessions_of(catalog).append({}, state_at(4, waiting))
    assert sessions_of(catalog).state == state_at(4, waiting)
    assert offsets_in(catalog) == [0, 1]


def test_a_commit_on_top_of_another_sinks_is_refused(catalog: Catalog) -> None:
    one, other = sessions_of(catalog), sessions_of(catalog)
    append(one, 0)
    with pytest.raises(StoreError, match="another sink writes here"):
        append(other, 0, 1)
    assert offsets_in(catalog) == [0]


def test_a_commit_whose_answer_was_lost_is_not_made_again(catalog: Catalog) -> None:
    one, same = sessions_of(catalog), sessions_of(catalog)
    append(one, 0)
    append(same, 0)
    assert offsets_in(catalog) == [0]
    append(same, 1)
    assert offsets_in(catalog) == [0, 1]


def test_what_another_writer_rewrites_keeps_the_position(catalog: Catalog) -> None:
    table = sessions_of(catalog)
    append(table, 0, 1)
    others = catalog.load_table("streamer.sessions")
    others.overwrite(others.scan().to_arrow())
    append(table, 2)
    assert sessions_of(catalog).state == state_at(3)
    assert offsets_in(catalog) == [0, 1, 2]


def test_a_table_that_the_sink_did_not_make_is_refused(catalog: Catalog) -> None:
    sessions_of(catalog)
    others = catalog.load_table("streamer.sessions")
    others.append(others.scan().to_arrow())
    with pytest.raises(StoreError, match=r"no snapshot has streamer\.state"):
        sessions_of(catalog)


def test_columns_that_are_missing_are_added(catalog: Catalog) -> None:
    append(sessions_of(catalog), 0)
    with catalog.load_table("streamer.sessions").update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("top_intent")
    append(sessions_of(catalog), 1)
    rows = catalog.load_table("streamer.sessions").scan().to_arrow().to_pylist()
    assert {row["topic_offset"]: row["top_intent"] for row in rows} == {0: None, 1: "cards"}


def test_small_files_of_a_day_are_joined(catalog: Catalog) -> None:
    table = sessions_of(catalog)
    for offset in range(4):
        append(table, offset)
    table.join(small=5, target_bytes=1_000_000)
    assert len(table.files()) == 4
    table.join(small=4, target_bytes=1_000_000)
    assert len(table.files()) == 1
    assert offsets_in(catalog) == [0, 1, 2, 3]
    append(table, 4)
    assert sessions_of(catalog).state == state_at(5)


def test_days_larger_than_the_target_are_left(catalog: Catalog) -> None:
    table = sessions_of(catalog)
    for offset in range(3):
        append(table, offset)
    sizes = [file.file_size_in_bytes for file in table.files()]
    table.join(small=1, target_bytes=sum(sizes) - 1)
    assert len(table.files()) == 3


def test_manifests_have_no_bounds_of_ids(catalog: Catalog) -> None:
    table = sessions_of(catalog)
    append(table, 0)
    (file,) = table.files()
    assert file.lower_bounds
    assert not any(b"v0" in bound for bound in file.lower_bounds.values())


def test_rows_that_were_taken_out_are_in_no_snapshot_and_no_file(catalog: Catalog, tmp_path: Path) -> None:
    table = sessions_of(catalog)
    append(table, 0, 1)
    append(table, 2)
    table.erase({0: [0]}, state_at(4))
    assert offsets_in(catalog) == [1, 2]
    table.tidy(older_than_s=0, strays_older_than_s=0)
    (only,) = catalog.load_table("streamer.sessions").snapshots()
    assert only.summary is not None
    files = [*tmp_path.rglob("*.parquet")]
    assert len(files) == len(table.files()) == 2
    assert b"v0" not in b"".join(path.read_bytes() for path in files)
    assert offsets_in(catalog) == [1, 2]


def test_snapshots_stay_until_they_are_old_and_strays_until_they_are(catalog: Catalog) -> None:
    table = sessions_of(catalog)
    append(table, 0)
    append(table, 1)
    table.join(small=1, target_bytes=1_000_000)
    (joined,) = table.files()
    stray = Path(joined.file_path.removeprefix("file://")).with_name("stray.parquet")
    stray.write_bytes(b"of a commit that was killed")
    before = time.time() - 60
    table.tidy(older_than_s=before, strays_older_than_s=before)
    assert len(catalog.load_table("streamer.sessions").snapshots()) > 2
    assert len([*stray.parent.iterdir()]) == 4
    table.tidy(older_than_s=time.time() + 60, strays_older_than_s=time.time() + 60)
    assert len(catalog.load_table("streamer.sessions").snapshots()) == 1
    assert [*stray.parent.iterdir()] == [Path(joined.file_path.removeprefix("file://"))]
    assert offsets_in(catalog) == [0, 1]
