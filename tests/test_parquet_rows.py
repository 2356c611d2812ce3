"""Rows of a parquet file are the JSON that means the same, whatever types their columns have."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.errors import UsageError
from streamer.parquet_rows import CLICK_COLUMNS, json_rows
from streamer.pipeline.decode import ClickDecoder, Rejected

AT_MS = 1_795_800_000_123
TEXT = pa.string()


def rows(path: Path, columns: dict[str, pa.Array]) -> list[dict[str, Any]]:
    pq.write_table(pa.table(columns), path)
    return [orjson.loads(row) for row in json_rows(path, 2, CLICK_COLUMNS)]


@pytest.mark.parametrize(
    ("name", "values", "kind", "expected"),
    [
        ("timestamp", [AT_MS * 1_000_000 + 7], pa.timestamp("ns", "UTC"), AT_MS),
        ("timestamp", [AT_MS * 1_000 + 7], pa.timestamp("us"), AT_MS),
        ("timestamp", [AT_MS], pa.timestamp("ms", "Europe/Berlin"), AT_MS),
        ("timestamp", [AT_MS // 1000], pa.timestamp("s"), AT_MS // 1000 * 1000),
        ("timestamp", [2**52], pa.timestamp("ms"), 2**52),
        ("timestamp", [dt.date(2026, 1, 1)], pa.date32(), 1_767_225_600_000),
        ("dwell_ms", [1_500_000], pa.duration("ns"), 1),
        ("price", [Decimal("19.90")], pa.decimal128(20, 2), 19.9),
        ("properties", [[("a", "b"), ("c", None)]], pa.map_(TEXT, TEXT), {"a": "b", "c": None}),
        ("properties", [[("a", 1.5)]], pa.map_(TEXT, pa.float64()), {"a": 1.5}),
        ("properties", [[(1, b"b")]], pa.map_(pa.int8(), pa.binary()), {}),
        (
            "properties",
            [{"a": 1, "b": ["x"]}],
            pa.struct([("a", pa.int8()), ("b", pa.list_(TEXT))]),
            {"a": 1},
        ),
        ("properties", [{"b": []}], pa.struct([("b", pa.list_(TEXT))]), {}),
        ("device", [{"a": 1}], pa.struct([("a", pa.int8())]), {}),
        ("visitor_id", [b"ann"], pa.binary(), "ann"),
        ("visitor_id", [b"ann"], pa.large_binary(), "ann"),
        ("visitor_id", ["ann"], pa.dictionary(pa.int8(), TEXT), "ann"),
    ],
)
def test_a_value_is_written_as_the_type_of_its_field(
    tmp_path: Path, name: str, values: list[Any], kind: pa.DataType, expected: Any
) -> None:
    found = rows(tmp_path / "c.parquet", {name: pa.array([*values, None], kind)})
    assert found == [{name: expected}, {}]


def test_a_dump_is_read_with_its_bytes_as_they_are(tmp_path: Path) -> None:
    columns = {"arrival": pa.array([1]), "value": pa.array([b"{\xff"]), "page_url": pa.array(["/"])}
    assert rows(tmp_path / "dump.parquet", columns) == [{"arrival": 1, "value_base64": "e/8="}]


def test_all_columns_are_read_with_what_is_nested_in_them(tmp_path: Path) -> None:
    nested = {"a": [{"key": b"k", "value": Decimal("1.5")}], "b": None}
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"of_a_vendor": pa.array([nested])}), path)
    (row,) = json_rows(path, 2, None)
    assert orjson.loads(row) == {"of_a_vendor": {"a": [{"key": "k", "value": 1.5}], "b": None}}


def test_bytes_that_are_no_text_make_no_two_visitors_the_same(tmp_path: Path) -> None:
    ids = pa.array([b"\xff\x01", b"\xff\x02"], pa.binary())
    times = pa.array([AT_MS, AT_MS])
    for row in rows(tmp_path / "c.parquet", {"visitor_id": ids, "timestamp": times}):
        with pytest.raises(Rejected, match="validate: wrong_type:visitor_id"):
            ClickDecoder("json").decode(orjson.dumps(row), None, "")


def test_columns_that_no_click_has_are_not_read(tmp_path: Path) -> None:
    odd = pa.array([1, 2, 3], pa.timestamp("ns"))
    assert rows(tmp_path / "c.parquet", {"loaded_at": odd}) == [{}, {}, {}]
    assert rows(tmp_path / "c.parquet", {"loaded_at": odd, "device": pa.array(["a", "b", None])}) == [
        {"device": "a"},
        {"device": "b"},
        {},
    ]


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"visitor_id": ["ann"] * 1000}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[8:40] = bytes(32)
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"c\.parquet: damaged parquet file"):
        list(json_rows(path, 100, CLICK_COLUMNS))
