"""`streamer sink iceberg` on a real broker, in a catalogue of SQLite: each record once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from sqlalchemy.exc import SQLAlchemyError

from streamer.kafka.ports import free_ports
from streamer.settings import IcebergSinkSettings, Settings
from streamer.sink.iceberg import IcebergLake
from tests.client.records import a_message, a_record, a_user
from tests.conftest import ROOT, RunStreamer
from tests.sink.growing import copy_while_partitions_are_added
from tests.sink.kills import kill_while_rows_come, own_settings
from tests.sink.lake_rows import Row, expected
from tests.sink.live import Sink, end, publish
from tests.worker.live import metric, wait_until

NOW_MS = int(time.time() * 1000)
DAY_MS = 86_400_000


@pytest.fixture
def settings(bootstrap: str, tmp_path: Path) -> Settings:
    """With a folder for the tables, which are committed to and erased from as soon as can be."""
    (port,) = free_ports(1)
    often = {"commit_every_s": 0.2, "erase_every_s": 0.5, "keep_snapshots_s": 2}
    of_iceberg: dict[str, object] = {f"iceberg.{name}": value for name, value in often.items()}
    return own_settings(
        bootstrap, **{"metrics_port": port, "iceberg.folder": tmp_path / "lake", **of_iceberg}
    )


class IcebergSink(Sink):
    kind = "iceberg"


def drain(settings: Settings) -> str:
    sink = IcebergSink(settings, "--drain")
    assert sink.end() == 0, sink.log
    return sink.log


def folder_of(settings: Settings) -> Path:
    assert settings.sink.iceberg.folder is not None
    return settings.sink.iceberg.folder


def catalog_of(folder: Path) -> Catalog:
    uri = f"sqlite:///{folder}/catalog.db"
    return load_catalog("streamer", type="sql", uri=uri, init_catalog_tables="false")


def table_of(settings: Settings, name: str) -> Table:
    return catalog_of(folder_of(settings)).load_table(f"streamer.{name}")


def rows_of(settings: Settings, name: str) -> list[Row]:
    """In the order of the topic."""
    rows = table_of(settings, name).scan().to_arrow().drop_columns("day").to_pylist()
    return sorted(rows, key=lambda row: (row["topic_partition"], row["topic_offset"]))


def assert_same(settings: Settings) -> None:
    wanted = expected(settings)
    for row in wanted["sessions"]:
        row["reasons"] = (
            row["reasons"] or []
        )  # the library writes a list of records that is null as an empty one
    for name in ("sessions", "users"):
        assert rows_of(settings, name) == wanted[name], name


def count_of(settings: Settings) -> int:
    """Rows that are there already."""
    if not (folder_of(settings) / "catalog.db").exists():
        return 0
    try:
        snapshots = [table_of(settings, name).current_snapshot() for name in ("sessions", "users")]
    except (NoSuchTableError, SQLAlchemyError):
        return 0
    summaries = [each.summary for each in snapshots if each is not None and each.summary is not None]
    return sum(int(each["total-records"] or 0) for each in summaries)


def data_files(settings: Settings) -> list[Path]:
    return [*folder_of(settings).glob("*/*/data/*/*.parquet")]


def test_killed_at_any_moment_the_tables_have_each_record_once(settings: Settings) -> None:
    traffic = (settings, 5_000, 300, NOW_MS - 10_000, 5)
    kill_while_rows_come(traffic, 2, lambda: IcebergSink(settings), lambda: count_of(settings))
    drain(settings)
    assert_same(settings)
    for name in ("sessions", "users"):
        days = table_of(settings, name).scan(selected_fields=("day", "closed_at")).to_arrow().to_pylist()
        assert all(row["day"].isoformat() == day_of(row["closed_at"]) for row in days)


def test_partitions_that_are_added_are_followed(settings: Settings) -> None:
    topics = {"sessions": settings.topics.visitors, "users": settings.topics.users}
    of_iceberg = settings.sink.iceberg
    settings = copy_while_partitions_are_added(settings, lambda: IcebergLake(of_iceberg, topics, time.time))
    drain(settings)
    assert_same(settings)


def day_of(closed_at: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(closed_at / 1000))


def test_the_erased_go_from_every_file_and_snapshot(settings: Settings, run_streamer: RunStreamer) -> None:
    topics = settings.topics
    of_v1, of_v2 = a_record("erased-v1", NOW_MS - DAY_MS), a_record("v2", NOW_MS)
    visitors = [
        (topics.visitors, None, *a_message(v, NOW_MS - n * DAY_MS)) for n, v in enumerate(("v2", "erased-v1"))
    ]
    users = [
        a_user("both", of_v1),
        a_user("both", of_v1, of_v2),
        a_user("one", of_v2),
        a_user("erased-u", of_v2),
    ]
    publish(settings, [*visitors, *((topics.users, None, *user) for user in users)])
    sink = IcebergSink(settings)
    wait_until(lambda: count_of(settings) == 6)
    for topic, key in ((topics.visitors, b"erased-v1"), (topics.users, b"erased-u")):
        publish(settings, [(topic, number, key, None) for number in range(topics.partitions)])
    publish(settings, [(topics.users, None, *a_user("both", of_v2))])
    wait_until(lambda: metric(sink.port, "streamer_sink_records_total", outcome="deleted") == 4)
    end(sink)
    assert [row["visitor_id"] for row in rows_of(settings, "sessions")] == ["v2"]
    assert sorted(row["user_id"] for row in rows_of(settings, "users")) == ["both", "one"]
    assert_same(settings)
    files = [*data_files(settings), *folder_of(settings).rglob("*.avro")]
    everything = b"".join(path.read_bytes() for path in files)
    assert b"erased" not in everything
    assert read_as_documented(folder_of(settings).parent) == 2
    done = run_streamer("sink", "iceberg", "--verify", "--json", settings=settings)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "files": len(data_files(settings)),
        "rows": 3,
        "erased": 2,
        "left": 0,
    }


def read_as_documented(folder: Path) -> int:
    """How many rows of customers the program in the docs reads."""
    docs = (ROOT / "docs" / "lake.md").read_text()
    (program,) = re.findall(r"```python\n(from pyiceberg.*?)```", docs, re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nprint(len(users))"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_verify_tells_what_an_erasure_has_left_and_files_that_are_gone(
    settings: Settings, run_streamer: RunStreamer
) -> None:
    nothing = run_streamer("sink", "iceberg", "--verify", settings=settings)
    assert nothing.returncode == 1
    assert "no catalogue there" in nothing.stderr
    publish(settings, [(settings.topics.visitors, None, *a_message(v, NOW_MS)) for v in ("v1", "v2")])
    drain(settings)
    publish(settings, [(settings.topics.visitors, n, b"v1", None) for n in range(3)])
    left = run_streamer("sink", "iceberg", "--verify", "--json", settings=settings)
    assert left.returncode == 1
    assert json.loads(left.stdout)["left"] == 1
    assert "1 rows of the erased are left" in left.stderr
    (first,) = data_files(settings)
    kept = first.read_bytes()
    first.unlink()
    missing = run_streamer("sink", "iceberg", "--verify", settings=settings)
    assert missing.returncode == 1
    assert f"{first}: can't be read (FileNotFoundError), and streamer.sessions has it" in missing.stderr
    first.write_bytes(kept)
    metadata = Path(table_of(settings, "sessions").metadata_location.removeprefix("file://"))
    metadata.unlink()
    lost = IcebergSink(settings, "--drain")
    assert lost.end() == 1
    assert "the catalogue has a file that is gone" in lost.log
    assert metadata.name in lost.log


def test_a_catalogue_has_its_address_from_the_librarys_own_configuration(
    settings: Settings, run_streamer: RunStreamer, tmp_path: Path
) -> None:
    publish(settings, [(settings.topics.visitors, None, *a_message(v, NOW_MS)) for v in ("v1", "v2")])
    sink = settings.sink.model_copy(update={"iceberg": IcebergSinkSettings(catalog="production")})
    settings = settings.model_copy(update={"sink": sink})
    done = run_streamer("sink", "iceberg", "--drain", settings=settings)
    assert done.returncode == 2
    assert "sink.iceberg.catalog production: not in pyiceberg's configuration" in done.stderr
    place = {"URI": f"sqlite:///{tmp_path}/some.db", "WAREHOUSE": f"file://{tmp_path}/tables"}
    environ = {f"PYICEBERG_CATALOG__PRODUCTION__{name}": value for name, value in place.items()}
    done = run_streamer("sink", "iceberg", "--drain", settings=settings, environ=environ)
    assert done.returncode == 0, done.stderr
    done = run_streamer("sink", "iceberg", "--verify", settings=settings, environ=environ)
    assert done.returncode == 0, done.stderr
    assert ", 2 rows; 0 erased keys" in done.stderr


def test_no_place_and_two_places_are_wrong_calls(run_streamer: RunStreamer) -> None:
    done = run_streamer("sink", "iceberg")
    assert (done.returncode, done.stdout) == (2, "")
    assert "give --folder, sink.iceberg.folder or sink.iceberg.catalog" in done.stderr
    both = {"STREAMER_SINK__ICEBERG__CATALOG": "production"}
    done = run_streamer("sink", "iceberg", "--folder", "lake", environ=both)
    assert (done.returncode, done.stdout) == (2, "")
    assert "folder and catalog are both set; expected one of them" in done.stderr
