"""The replay on Spark: the same sessions, counts and digests as `streamer replay`."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.replay.options import ReplayOptions, bundles_of
from streamer.replay.run import replay
from streamer.replay.time_range import TimeRange
from streamer.settings import Settings
from tests.conftest import ROOT
from tests.replay.log import hours_of_clicks

SCRIPT = ROOT / "examples" / "spark" / "replay.py"
SETTINGS = Settings()


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spark_replay", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def log() -> pa.Table:
    """Two partitions, in order."""
    return pa.concat_tables(
        pa.table(
            {
                "partition": pa.array([number] * len(records), pa.int32()),
                "offset": [record.offset for record in records],
                "arrival": [record.timestamp for record in records],
                "key": [record.key for record in records],
                "value": [record.value for record in records],
            }
        )
        for number, records in enumerate((hours_of_clicks(5), hours_of_clicks(6)))
    )


@pytest.fixture(scope="module")
def expected(log: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `streamer replay` comes to."""
    source, out = (tmp_path_factory.mktemp("replay") / name for name in ("log.parquet", "sessions.parquet"))
    pq.write_table(log, source)
    options = ReplayOptions(TimeRange(), str(source), bundles_of([], SETTINGS), str(out), 0, 1, users=False)
    summary = replay(SETTINGS, options, lambda _, __: None).as_dict()
    named = {name: summary[name] for name in ("clicks", "closed_by", "dead_letters")}
    return named | {"digests": summary["bundles"][0]["digests"], "rows": pq.read_table(out)}


def test_the_function_of_a_task_has_the_sessions_and_digests_of_a_replay(
    example: ModuleType, log: pa.Table, expected: dict[str, Any]
) -> None:
    batches = list(example.replayed(log.to_batches(777), SETTINGS, example.files_of(SETTINGS)))
    output = pa.Table.from_batches(batches)
    sums = example.sums(text for text in output["summary"].to_pylist() if text is not None)
    assert sums == {name: value for name, value in expected.items() if name != "rows"}
    assert sums["closed_by"]["idle"] > 0
    assert sums["dead_letters"]
    rows = output.filter(pa.compute.equal(output["kind"], "sessions")).select(expected["rows"].column_names)
    assert rows.to_pylist() == expected["rows"].to_pylist()


def test_a_record_that_is_there_twice_is_an_error(example: ModuleType, log: pa.Table) -> None:
    twice = pa.concat_tables([log.slice(0, 2), log.slice(1, 1)])
    with pytest.raises(ValueError, match="partition 0: offset 1 after 1; expected each once"):
        list(example.replayed(twice.to_batches(), SETTINGS, example.files_of(SETTINGS)))


@pytest.mark.parametrize("format_", ["parquet", "json"])
def test_spark_gives_the_same(log: pa.Table, expected: dict[str, Any], tmp_path: Path, format_: str) -> None:
    """Files of a lake are in no order."""
    pytest.importorskip("pyspark")
    (clicks := tmp_path / "clicks").mkdir()
    shuffled = log.take(random.Random(1).sample(range(len(log)), len(log)))
    for number in range(2):
        half = len(log) // 2
        write(clicks / f"{number}.{format_}", shuffled.slice(number * half, None if number else half))
    given = {"--clicks": str(clicks), "--format": format_, "--tasks": "4", "--out": str(tmp_path / "out")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *chain.from_iterable(given.items())],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=os.environ | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sums = json.loads(done.stdout.splitlines()[-1])
    assert sums == {name: value for name, value in expected.items() if name != "rows"}
    rows = pq.read_table(tmp_path / "out" / "kind=sessions")
    assert sorted(rows["session_id"].to_pylist()) == sorted(expected["rows"]["session_id"].to_pylist())


def write(path: Path, records: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(records, path)
        return
    rows = records.drop_columns("key").to_pylist()
    as_text = ({**row, "value": row["value"] and row["value"].decode(), "key": "k"} for row in rows)
    path.write_text("\n".join(map(json.dumps, as_text)))
