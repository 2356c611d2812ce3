"""`streamer sink parquet` on a real broker: each record once, whatever is killed, and none of the erased."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.kafka.ports import free_ports
from streamer.settings import ParquetSinkSettings, Settings
from streamer.sink.lake import Lake
from streamer.sink.source import sources_of
from streamer.sink.store import Batch, Change, StoreAwayError, StoreError
from tests.client.records import a_message, a_record, a_user
from tests.conftest import ROOT, RunStreamer
from tests.sink.growing import copy_while_partitions_are_added
from tests.sink.kills import kill_while_rows_come, own_settings
from tests.sink.lake_rows import Row, expected
from tests.sink.live import Sink, end, publish
from tests.sink.traffic import DIMENSIONS
from tests.worker.live import metric, wait_until

NOW_MS = int(time.time() * 1000)
DAY_MS = 86_400_000
DOCS = (ROOT / "docs" / "lake.md").read_text()


@pytest.fixture
def settings(bootstrap: str, tmp_path: Path) -> Settings:
    """With a folder for the lake, which commits and erases as soon as can be."""
    (port,) = free_ports(1)
    often = {"parquet.commit_every_s": 0.2, "parquet.erase_every_s": 0.5}
    return own_settings(bootstrap, **{"metrics_port": port, "parquet.folder": tmp_path / "lake", **often})


class LakeSink(Sink):
    kind = "parquet"


def drain(settings: Settings) -> str:
    sink = LakeSink(settings, "--drain")
    assert sink.end() == 0, sink.log
    return sink.log


def files_of(settings: Settings, table: str) -> list[Path]:
    folder = settings.sink.parquet.folder
    assert folder is not None
    manifest = json.loads((folder / "manifest.json").read_text())
    return [folder / file["path"] for file in manifest["files"] if file["table"] == table]


def rows_of(settings: Settings, table: str) -> list[Row]:
    """In the order of the topic."""
    rows = [row for path in files_of(settings, table) for row in pq.ParquetFile(path).read().to_pylist()]
    return sorted(rows, key=lambda row: (row["topic_partition"], row["topic_offset"]))


def assert_same(settings: Settings) -> None:
    wanted = expected(settings)
    for table in ("sessions", "users"):
        assert rows_of(settings, table) == wanted[table], table


def test_killed_at_any_moment_the_lake_has_each_record_once(settings: Settings) -> None:
    folder = settings.sink.parquet.folder
    assert folder is not None
    manifest, stray = folder / "manifest.json", folder / "sessions/day=2026-01-01/stray.parquet"
    traffic = (settings, 12_000, 600, NOW_MS - 10_000, 3)
    kill_while_rows_come(traffic, 3, lambda: LakeSink(settings), lambda: rows_in(manifest))
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"of a commit that was killed")
    drain(settings)
    assert_same(settings)
    for table in ("sessions", "users"):
        for path in files_of(settings, table):
            assert pq.read_schema(path).field("embedding").type.list_size == DIMENSIONS
    counts = [
        each["counts"] for topic in manifest_of(folder)["positions"].values() for each in topic.values()
    ]
    assert all(each["read"] == sum(each.values()) - each["read"] for each in counts)
    listed = {file["path"] for file in manifest_of(folder)["files"]} | {*manifest_of(folder)["replaced"]}
    assert {path.relative_to(folder).as_posix() for path in folder.glob("*/*/*")} == listed


def test_partitions_that_are_added_are_followed(settings: Settings) -> None:
    settings = copy_while_partitions_are_added(settings, lambda: Lake(settings.sink.parquet, time.time))
    drain(settings)
    assert_same(settings)


def rows_in(manifest: Path) -> int:
    """That count already."""
    return sum(file["rows"] for file in manifest_of(manifest.parent)["files"]) if manifest.exists() else 0


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())


def test_the_erased_go_from_files_and_from_what_customers_had_of_them(
    settings: Settings, run_streamer: RunStreamer
) -> None:
    topics = settings.topics
    of_v1, of_v2 = a_record("v1", NOW_MS - DAY_MS), a_record("v2", NOW_MS)
    visitors = [
        (topics.visitors, None, *a_message(v, NOW_MS - n * DAY_MS)) for n, v in enumerate(("v2", "v1"))
    ]
    users = [a_user("both", of_v1), a_user("both", of_v1, of_v2), a_user("one", of_v2), a_user("gone", of_v2)]
    publish(settings, [*visitors, *((topics.users, None, *user) for user in users)])
    sink = LakeSink(settings)
    wait_until(lambda: len(rows_if_any(settings)) == 4)
    days = {path.parent.name for table in ("sessions", "users") for path in files_of(settings, table)}
    assert len(days) == 2
    for topic, key in ((topics.visitors, b"v1"), (topics.users, b"gone")):
        publish(settings, [(topic, number, key, None) for number in range(topics.partitions)])
    publish(settings, [(topics.users, None, *a_user("both", of_v2))])
    wait_until(lambda: metric(sink.port, "streamer_sink_records_total", outcome="deleted") == 4)
    end(sink)
    assert [row["visitor_id"] for row in rows_of(settings, "sessions")] == ["v2"]
    assert sorted(row["user_id"] for row in rows_of(settings, "users")) == ["both", "one"]
    assert_same(settings)
    folder = settings.sink.parquet.folder
    assert folder is not None
    everything = b"".join(path.read_bytes() for path in folder.glob("*/*/*"))
    assert b"v1" not in everything
    assert b"gone" not in everything
    done = run_streamer("sink", "parquet", "--verify", "--json", settings=settings)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "files": len(list(folder.glob("*/*/*"))),
        "rows": 3,
        "erased": 2,
        "left": 0,
    }


def rows_if_any(settings: Settings) -> list[Row]:
    try:
        return rows_of(settings, "users")
    except FileNotFoundError:  # no manifest yet, or a file was replaced
        return []


def test_verify_tells_what_an_erasure_has_left_and_a_file_that_is_gone(
    settings: Settings, run_streamer: RunStreamer
) -> None:
    publish(settings, [(settings.topics.visitors, None, *a_message(v, NOW_MS)) for v in ("v1", "v2")])
    nothing = run_streamer("sink", "parquet", "--verify", settings=settings)
    assert nothing.returncode == 1
    assert "no lake there" in nothing.stderr
    drain(settings)
    publish(settings, [(settings.topics.visitors, n, b"v1", None) for n in range(3)])
    left = run_streamer("sink", "parquet", "--verify", "--json", settings=settings)
    assert left.returncode == 1
    assert json.loads(left.stdout)["left"] == 1
    assert "1 rows of the erased are left" in left.stderr
    assert "v1" not in left.stderr
    (first, *_) = files_of(settings, "sessions")
    first.unlink()
    missing = run_streamer("sink", "parquet", "--verify", settings=settings)
    assert missing.returncode == 1
    assert f"{first}: can't be read (FileNotFoundError), and the manifest has it" in missing.stderr


def test_after_a_long_absence_erasures_are_those_of_their_own_topic(
    settings: Settings, run_streamer: RunStreamer
) -> None:
    topics = settings.topics
    publish(settings, [(topics.visitors, None, *a_message(v, NOW_MS)) for v in ("v1", "v2")])
    publish(settings, [(topics.users, None, *a_user(u, a_record("v2", NOW_MS))) for u in ("u1", "u2")])
    drain(settings)
    for whom in (("--visitor", "v1"), ("--user", "u1")):
        assert run_streamer("erase", *whom, settings=settings).returncode == 0
    assert "tombstones_may_be_gone" not in drain(settings)
    assert len(rows_of(settings, "sessions")) == 2, "no worker has written a tombstone"
    folder = settings.sink.parquet.folder
    assert folder is not None
    manifest = manifest_of(folder)
    for positions in manifest["positions"].values():
        for position in positions.values():
            position["at_end_ms"] -= DAY_MS
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "tombstones_may_be_gone" in drain(settings)
    assert [row["visitor_id"] for row in rows_of(settings, "sessions")] == ["v2"]
    assert [row["user_id"] for row in rows_of(settings, "users")] == ["u2"]


def test_small_files_of_a_day_are_joined(settings: Settings) -> None:
    sink = LakeSink(settings)
    for n in range(20):
        publish(settings, [(settings.topics.visitors, None, *a_message(f"v{n}", NOW_MS))])
        wait_until(lambda n=n: metric(sink.port, "streamer_sink_records_total", outcome="written") == n + 1)  # type: ignore[misc]
    end(sink)
    assert len(files_of(settings, "sessions")) < 8
    assert_same(settings)


def test_one_sink_writes_at_a_time(settings: Settings, run_streamer: RunStreamer) -> None:
    sink = LakeSink(settings)
    sink.wait_for('"copying"')
    done = run_streamer("sink", "parquet", "--drain", settings=settings)
    assert done.returncode == 1
    assert "another sink writes here" in done.stderr
    end(sink)


def test_files_of_others_stay_and_files_without_a_manifest_are_not_taken_for_strays(tmp_path: Path) -> None:
    sink = ParquetSinkSettings(folder=tmp_path)
    of_others, own = (tmp_path / table / "day=2026-01-01" / "a.parquet" for table in ("orders", "sessions"))
    for file in (of_others, own):
        file.parent.mkdir(parents=True)
    of_others.touch()
    asyncio.run(Lake(sink, time.time).__aexit__(None, None, None))
    assert of_others.exists()
    own.touch()
    with pytest.raises(StoreError, match=r"files in sessions or users, but no manifest\.json"):
        Lake(sink, time.time)
    assert own.exists()


def test_a_manifest_is_there_before_the_first_file(tmp_path: Path) -> None:
    """Or what a killed first commit has written would look like files whose manifest was lost."""
    lake = Lake(ParquetSinkSettings(folder=tmp_path), time.time)
    visitors = sources_of(Settings())[0]
    asyncio.run(lake.begin(visitors, 0, None, 0, 1, NOW_MS))
    asyncio.run(lake.apply([Batch(visitors, 0, 0, 1, [Change(0, NOW_MS, "v", a_record("v"))], 1)], NOW_MS))
    (tmp_path / "sessions").touch()
    with pytest.raises(StoreAwayError):
        asyncio.run(lake.flush())
    assert manifest_of(tmp_path)["files"] == []
    (tmp_path / "sessions").unlink()
    asyncio.run(lake.flush())
    asyncio.run(lake.__aexit__(None, None, None))
    assert rows_in(tmp_path / "manifest.json") == 1


def test_no_folder_is_a_wrong_call(run_streamer: RunStreamer) -> None:
    done = run_streamer("sink", "parquet")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no folder; give --folder or sink.parquet.folder" in done.stderr


def recipes() -> Iterator[Any]:
    """Programs in the docs, each named by the library that it is for."""
    for name, text in re.findall(r"<!-- recipe (\w+) -->\n```python\n(.*?)```", DOCS, re.DOTALL):
        yield pytest.param(name, text, id=name)


@pytest.mark.parametrize(("library", "program"), [*recipes()])
def test_recipes_read_the_lake(settings: Settings, library: str, program: str) -> None:
    pytest.importorskip(library)
    records = [a_record("v1", NOW_MS - 5, user_id="u"), a_record("v2", NOW_MS, user_id="u")]
    topics = settings.topics
    publish(settings, [(topics.visitors, None, *a_message("v1", NOW_MS - n * DAY_MS)) for n in range(3)])
    publish(settings, [(topics.users, None, *a_user("u", *records[: n + 1])) for n in range(2)])
    drain(settings)
    folder = settings.sink.parquet.folder
    assert folder is not None
    decision = pa.table({"user_id": ["u", "u"], "decided_at": [NOW_MS - 10 * DAY_MS, NOW_MS + DAY_MS]})
    pq.write_table(decision, folder.parent / "decisions.parquet")
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 decisions, 1 known" in done.stdout
    assert "3 sessions" in done.stdout
