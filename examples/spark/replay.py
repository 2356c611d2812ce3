"""Replays clicks in a lake on Spark: the pipeline of `streamer replay`, one partition of the topic a task.

    spark-submit examples/spark/replay.py --clicks s3a://lake/clicks --out s3a://lake/march

Clicks are a dumped log (docs/replay.md), as Parquet or JSON. In the output, `kind=sessions` has the rows of
`streamer replay --out FILE.parquet`, and `kind=summary` what became of each partition's clicks, with digests
of its sessions. The sums of these are printed, under the names of `streamer replay --json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from streamer.pipeline.counters import ClickCounters, total_of
from streamer.registry.lookup import COMMAND_PATIENCE_S, SchemaLookup
from streamer.replay.digests import OutputDigests
from streamer.replay.engine import SCORE_AT_ONCE
from streamer.replay.options import bundles_of
from streamer.replay.partition_replay import PartitionReplay, SelectionCounters
from streamer.replay.plan import PartitionPlan, ReplayConfig
from streamer.replay.rows import SCHEMA, table_of
from streamer.replay.run import clicks_by_end
from streamer.replay.scoring import BundleScorers
from streamer.replay.sources import LogRecord
from streamer.rules_from_settings import session_rules
from streamer.schemas.click import Session
from streamer.settings import Settings, load_settings
from streamer.sources import click_decoder, whole_value

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PORTION = 1000
LOG = ("partition", "offset", "arrival", "key", "value")
_OF_TASK = [("kind", pa.string()), ("partition", pa.int32()), ("summary", pa.string())]
OUTPUT = pa.schema([*_OF_TASK, *SCHEMA])


def files_of(settings: Settings) -> dict[str, bytes]:
    """By name, those of the bundle that the settings name, or of the shipped one."""
    (folder,) = bundles_of([], settings)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def replayed(
    batches: Iterable[pa.RecordBatch], settings: Settings, bundle: dict[str, bytes]
) -> Iterator[pa.RecordBatch]:
    """OUTPUT of whole partitions, whose records come in order of partition and offset. Holds the open
    sessions of one, and those that are scored together. Raises ValueError for records out of order."""
    scorers = _scorers(settings, bundle)
    for number, records in groupby(_records(batches), key=itemgetter(0)):
        log = (record for _, record in records)
        first = next(log)
        lookup = SchemaLookup(settings.registry, COMMAND_PATIENCE_S)
        replay = _replay_of(settings, lookup, number, first)
        sessions = _sessions(replay, lookup, chain([first], log))
        digests = OutputDigests()
        while some := list(islice(sessions, SCORE_AT_ONCE)):
            rows = _scored(replay, some, scorers, digests)
            yield from _output("sessions", number, rows)
        counters = replay.counters.to_row()
        summary = {"selection": replay.selection, "counters": counters, "digests": digests.as_dict()}
        nothing = pa.Table.from_pylist([{}], SCHEMA)
        yield from _output("summary", number, nothing, msgspec.json.encode(summary).decode())


def _scorers(settings: Settings, bundle: dict[str, bytes]) -> BundleScorers:
    with tempfile.TemporaryDirectory() as folder:
        for name, content in bundle.items():
            (Path(folder) / name).write_bytes(content)
        version, emit = session_rules(settings).version, settings.emit
        return BundleScorers.load([Path(folder)], version, memberships=emit.memberships, reasons=emit.reasons)


def _replay_of(settings: Settings, lookup: SchemaLookup, number: int, first: LogRecord) -> PartitionReplay:
    config = ReplayConfig(
        settings.session_source,
        session_rules(settings),
        idle_closing=settings.clicks.arrival == "log_append_time",
        early_every_ms=settings.emit.early_every_ms,
        at_login=settings.emits_at_login,
    )
    unread_until_ms = None if first.offset == 0 else first.timestamp
    plan = PartitionPlan(number, first.offset, first.offset, unread_until_ms)
    decode = click_decoder(settings.clicks, None, lookup.registered).decode
    return PartitionReplay(config, plan, decode, whole=whole_value(settings.clicks, lookup.registered))


def _sessions(replay: PartitionReplay, lookup: SchemaLookup, log: Iterator[LogRecord]) -> Iterator[Session]:
    """As they close; the end of the log closes those that are open."""
    found: list[Session] = []
    while portion := list(islice(log, PORTION)):
        # What is yielded before a schema is missing is found, and not yielded again.
        asyncio.run(lookup.tried(partial(_take_in, replay, portion, found)))
        yield from found
        found.clear()
    yield from replay.drain()


def _take_in(replay: PartitionReplay, records: list[LogRecord], found: list[Session]) -> None:
    found.extend(replay.process(records))


def _scored(
    replay: PartitionReplay, sessions: list[Session], scorers: BundleScorers, digests: OutputDigests
) -> pa.Table:
    scored = scorers.score(sessions)
    for each in scored:
        for reason in each.errors:
            replay.unscored(each.session)
            replay.selection.count_dead("score", reason)
    digests.add([output.records for each in scored for output in each.outputs if output is not None])
    return table_of(scored, scorers.bundles, scorers.rules_version)


def _records(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, LogRecord]]:
    last = (-1, -1)
    for batch in batches:
        for partition, offset, *rest in zip(*(batch[name].to_pylist() for name in LOG), strict=True):
            if (partition, offset) <= last:
                raise ValueError(
                    f"partition {partition}: offset {offset} after {last[1]}; expected each once"
                )
            last = partition, offset
            yield partition, LogRecord(offset, *rest)


def _output(kind: str, partition: int, rows: pa.Table, summary: str | None = None) -> list[pa.RecordBatch]:
    of_task = [
        pa.array([value] * rows.num_rows, type_)
        for value, (_, type_) in zip((kind, partition, summary), _OF_TASK, strict=True)
    ]
    table = pa.Table.from_arrays([*of_task, *rows.columns], schema=OUTPUT)
    return list(table.combine_chunks().to_batches())


def replay_on_spark(clicks: DataFrame, out: str, settings: Settings, tasks: int) -> dict[str, Any]:
    """Write sessions and summaries to a folder that isn't there yet; returns the sums. `tasks`: at least as
    many as the topic has partitions is best."""
    from pyspark.sql.pandas.types import from_arrow_schema

    spark = clicks.sparkSession
    shared = spark.sparkContext.broadcast((settings, files_of(settings)))
    ordered = _log_of(clicks).repartition(tasks, "partition").sortWithinPartitions("partition", "offset")
    rows = ordered.mapInArrow(lambda batches: replayed(batches, *shared.value), from_arrow_schema(OUTPUT))
    rows.write.partitionBy("kind").option("compression", "zstd").parquet(out)
    stored = spark.read.parquet(f"{out}/kind=summary").select("summary").collect()
    return sums(row.summary for row in stored)


def _log_of(clicks: DataFrame) -> DataFrame:
    from pyspark.sql.functions import coalesce, col, unbase64

    value = col("value").cast("binary") if "value" in clicks.columns else None
    if "value_base64" in clicks.columns:
        packed = unbase64("value_base64")
        value = packed if value is None else coalesce(value, packed)
    assert value is not None
    numbers = (col("partition").cast("int"), col("offset").cast("long"), col("arrival").cast("long"))
    return clicks.select(*numbers, col("key").cast("binary"), value.alias("value"))


def sums(summaries: Iterable[str]) -> dict[str, Any]:
    """Of all partitions, as `streamer replay --json` has them."""
    selection, digests, counters = SelectionCounters(), OutputDigests(), []
    for each in map(json.loads, summaries):
        selection.add(msgspec.convert(each["selection"], SelectionCounters))
        digests.merge(OutputDigests(each["digests"]))
        counters.append(ClickCounters.from_row(each["counters"]))
    return {
        "clicks": clicks_by_end(selection, total_of(counters)),
        "closed_by": dict(sorted(selection.closed_by.items())),
        "dead_letters": dict(sorted(selection.dead.items())),
        "digests": digests.as_dict(),
    }


def main() -> None:
    from pyspark.sql import SparkSession

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clicks", required=True, help="a path that Spark reads")
    parser.add_argument("--format", default="parquet", choices=("parquet", "json"))
    parser.add_argument("--out", required=True, help="a path that isn't there yet")
    parser.add_argument("--config", type=Path, help="streamer.toml of this machine; it is sent along")
    parser.add_argument("--tasks", type=int, default=200, help="at least as many as there are partitions")
    given = parser.parse_args()
    spark = SparkSession.builder.appName("streamer-replay").getOrCreate()
    clicks = spark.read.format(given.format).load(given.clicks)
    print(json.dumps(replay_on_spark(clicks, given.out, load_settings(given.config), given.tasks)))


if __name__ == "__main__":
    main()
