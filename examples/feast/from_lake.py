"""Makes Feast's offline files of a lake: `python from_lake.py LAKE`, after `streamer sink parquet` has run.

Feast wants a time stamp where the lake has milliseconds, and reads all files of a folder where the lake's
manifest says which count.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

TIMES = {"event_timestamp": "closed_at", "created": "recorded_at"}
NOT_FEATURES = ("history", "intents", "profile")


def write(lake: Path, table: str, out: Path) -> int:
    """One file of a table; returns how many rows it has. Raises SystemExit if there is none."""
    try:
        files = json.loads((lake / "manifest.json").read_text())["files"]
    except FileNotFoundError:
        sys.exit(f"{lake}: no manifest.json; expected the folder of `streamer sink parquet`")
    rows = [of_feast(pq.ParquetFile(lake / file["path"]).read()) for file in files if file["table"] == table]
    if not rows:
        sys.exit(f"{lake}: no {table} yet, and Feast needs some to know the columns")
    out.parent.mkdir(parents=True, exist_ok=True)
    whole = pa.concat_tables(rows, promote_options="default")
    pq.write_table(whole, out)
    return whole.num_rows


def of_feast(rows: pa.Table) -> pa.Table:
    """With time stamps, and vectors of any length."""
    for name, column in TIMES.items():
        moments = rows[column].cast(pa.timestamp("ms")).cast(pa.timestamp("ms", "UTC"))
        rows = rows.append_column(name, moments)
    for place, field in enumerate(rows.schema):
        if pa.types.is_fixed_size_list(field.type):
            vectors = rows[field.name].cast(pa.list_(field.type.value_type))
            rows = rows.set_column(place, field.name, vectors)
    return rows.drop_columns([name for name in NOT_FEATURES if name in rows.column_names])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python from_lake.py LAKE")
    lake = Path(sys.argv[1])
    for name in ("sessions", "users"):
        print(f"{name}: {write(lake, name, Path(f'data/{name}.parquet'))} rows")
