"""The copy in Iceberg by plain batches: what a catalogue that is away, or no longer whole, does to it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streamer.errors import UsageError
from streamer.settings import IcebergSinkSettings, Settings
from streamer.sink.iceberg import IcebergLake, looked_through
from streamer.sink.source import sources_of
from streamer.sink.store import Batch, Change, StoreAwayError, StoreError
from tests.client.records import NOW_MS, a_record

VISITORS = sources_of(Settings())[0]
TOPICS = {"sessions": VISITORS.topic}


@pytest.fixture
def settings(tmp_path: Path) -> IcebergSinkSettings:
    return IcebergSinkSettings(folder=tmp_path / "a lake", commit_every_s=3600)


@pytest.fixture
def lake(settings: IcebergSinkSettings) -> Iterator[IcebergLake]:
    """With three sessions that wait for a commit."""
    lake = IcebergLake(settings, TOPICS, time.time)
    asyncio.run(lake.begin(VISITORS, 0, None, 0, 3, NOW_MS))
    changes = [Change(n, NOW_MS, f"v{n}", a_record(f"v{n}")) for n in range(3)]
    asyncio.run(lake.apply([Batch(VISITORS, 0, 0, 3, changes, 3)], NOW_MS))
    yield lake
    asyncio.run(lake.__aexit__(None, None, None))


def test_a_catalogue_that_is_locked_holds_the_commit_up_and_nothing_is_lost(
    lake: IcebergLake, settings: IcebergSinkSettings
) -> None:
    assert settings.folder is not None
    with closing(sqlite3.connect(settings.folder / "catalog.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreAwayError, match="the catalogue doesn't answer"):
            asyncio.run(lake.commit())
        other.rollback()
    asyncio.run(lake.flush())
    assert looked_through(settings, []).rows == 3
    asyncio.run(lake.flush())
    assert looked_through(settings, []).rows == 3


def test_a_table_that_was_dropped_is_an_error(lake: IcebergLake, settings: IcebergSinkSettings) -> None:
    assert settings.folder is not None
    with closing(sqlite3.connect(settings.folder / "catalog.db")) as other:
        other.execute("DELETE FROM iceberg_tables WHERE table_name = 'sessions'")
        other.commit()
    with pytest.raises(StoreError, match="a table of it is gone from the catalogue"):
        asyncio.run(lake.commit())


def test_a_file_that_a_killed_commit_left_unfinished_is_no_error(
    lake: IcebergLake, settings: IcebergSinkSettings
) -> None:
    asyncio.run(lake.flush())
    assert settings.folder is not None
    (file,) = settings.folder.glob("streamer/sessions/data/*/*.parquet")
    file.with_name("unfinished.parquet").write_bytes(file.read_bytes()[:100])
    found = looked_through(settings, [])
    assert (found.files, found.rows, found.left) == (1, 3, 0)


def test_files_whose_catalogue_is_gone_are_left_as_they_are(
    lake: IcebergLake, settings: IcebergSinkSettings
) -> None:
    asyncio.run(lake.flush())
    asyncio.run(lake.__aexit__(None, None, None))
    assert settings.folder is not None
    (settings.folder / "catalog.db").unlink()
    with pytest.raises(StoreError, match=r"files of tables, but no catalog\.db"):
        IcebergLake(settings, TOPICS, time.time)
    assert len([*settings.folder.glob("streamer/sessions/data/*/*.parquet")]) == 1


def test_a_copy_of_a_folder_is_refused_for_its_tables_are_the_originals(
    lake: IcebergLake, settings: IcebergSinkSettings, tmp_path: Path
) -> None:
    asyncio.run(lake.flush())
    assert settings.folder is not None
    copy = settings.model_copy(update={"folder": shutil.copytree(settings.folder, tmp_path / "copy")})
    with pytest.raises(StoreError, match="a folder can't be moved or copied"):
        IcebergLake(copy, TOPICS, time.time)
    with pytest.raises(StoreError, match="a folder can't be moved or copied"):
        looked_through(copy, [])


def test_a_folder_whose_name_ends_an_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a path without any of # \\? %"):
        IcebergLake(IcebergSinkSettings(folder=tmp_path / "lake#1"), TOPICS, time.time)
