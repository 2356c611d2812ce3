"""Simulated tables as gzipped JSON lines, byte for byte the same for the same simulation."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import orjson

from streamer.models.simulator.simulation import Record, Simulated
from streamer.models.whole_file import whole_file, write_whole

TABLES = ("clicks", "sessions", "visitors", "users", "impressions", "conversions", "outcomes")
"""`sessions` and `visitors` hold the latent truth; `clicks` is what a site would have sent; `outcomes` joins
the two before it by visitor, for a backtest."""


def write(simulated: Simulated, out_dir: Path) -> dict[str, Path]:
    """Writes TABLE.jsonl.gz for each of TABLES and config.json; returns the paths by table."""
    config = orjson.dumps(simulated.config.as_dict(), option=orjson.OPT_INDENT_2)
    write_whole(out_dir / "config.json", config + b"\n")
    paths = {table: out_dir / f"{table}.jsonl.gz" for table in TABLES}
    for table, path in paths.items():
        write_table(getattr(simulated, table)(), path)
    return paths


def write_table(records: Iterable[Record], path: Path, *, level: int = 6) -> None:
    # No file name and no time in the header: they would make the same table differ.
    with whole_file(path) as raw, gzip.GzipFile("", "wb", level, raw, mtime=0) as packed:
        lines = (orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records)
        while chunk := b"".join(islice(lines, 1_000)):
            packed.write(chunk)


def read_table(path: Path) -> Iterator[Record]:
    with gzip.open(path, "rb") as lines:
        for line in lines:
            yield orjson.loads(line)
