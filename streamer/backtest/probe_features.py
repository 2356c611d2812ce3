"""A team's own features: CSV, JSON lines or parquet, with an id, a time, and numbers or categories.

The id is `visitor_id` or `user_id`. `time` is when the features were known and the row was decided: ms UTC or
RFC 3339, UTC where no zone is given. A column of numbers is numbers, any other is categories. What is empty,
null, NaN or infinite is missing.
"""

from __future__ import annotations

import csv
import datetime as dt
import math
from collections.abc import Iterator
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import pyarrow as pa

from streamer.backtest.tasks import customer
from streamer.errors import UsageError
from streamer.line_file import is_parquet, lines_of
from streamer.models.evaluation.probe.rows import TeamFeatures
from streamer.parquet_rows import opened
from streamer.replay.rows import ROW_GROUP

TIME, VISITOR, USER = "time", "visitor_id", "user_id"
_LARGEST = 1e100
"""Of a number, either way: its square has to be one, too."""
_EXPECTED = f"expected {VISITOR} or {USER}, {TIME}, and at least one feature"


class FeatureFile(NamedTuple):
    id_column: str
    """VISITOR or USER; owners of USER are as `customer` has them."""
    features: TeamFeatures


def read_features(path: Path) -> FeatureFile:
    """Raises UsageError that names line and column; values aren't repeated."""
    rows = list(_rows(path))
    if not rows:
        raise UsageError(f"{path}: no rows; {_EXPECTED}")
    names = list(dict.fromkeys(chain.from_iterable(row for _, row in rows)))
    id_column = _id_column(path, names)
    features = [name for name in names if name not in (id_column, TIME)]
    if TIME not in names:
        raise UsageError(f"{path}: no column {TIME}; {_EXPECTED}")
    if not features:
        raise UsageError(f"{path}: no column beside {id_column} and {TIME}; {_EXPECTED}")
    owners, at = [], []
    for place, row in rows:
        owner = row.get(id_column)
        if owner is None or owner == "":
            raise UsageError(f"{path}, {place}: no {id_column}, expected one in each row")
        owners.append(customer(str(owner)) if id_column == USER else str(owner))
        at.append(_ms(row.get(TIME), path, place))
    columns = {name: _column(path, name, rows) for name in features}
    return FeatureFile(id_column, TeamFeatures(owners, np.array(at, dtype=np.int64), columns))


def _id_column(path: Path, names: list[str]) -> str:
    found = [name for name in (VISITOR, USER) if name in names]
    if len(found) != 1:
        what = f"both {VISITOR} and {USER}" if found else f"no column {VISITOR} or {USER}"
        raise UsageError(
            f"{path}: {what}; expected one of the two, by which outcomes and sessions are joined"
        )
    return found[0]


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each with its place for messages."""
    if is_parquet(path):
        return _parquet_rows(path)
    lines = lines_of(path, "features as CSV, JSON lines or parquet")
    first = next(lines, None)
    if first is None:
        return iter(())
    all_lines = chain([first], lines)
    return _json_rows(path, all_lines) if first[1].lstrip()[:1] == b"{" else _csv_rows(path, all_lines)


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    with opened(path) as file:
        try:
            for batch in file.iter_batches(ROW_GROUP):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{path}: damaged parquet file ({type(error).__name__})") from None


def _json_rows(path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in lines:
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number}: expected a JSON object, as in the first line")
        yield f"line {number}", row


def _csv_rows(path: Path, lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[str, dict[str, Any]]]:
    last = 0

    def texts() -> Iterator[str]:
        nonlocal last
        for number, line in lines:
            last = number
            yield line.decode("utf-8")

    try:
        reader = csv.reader(texts(), strict=True)
        names = [name.strip() for name in next(reader)]
        if len(set(names)) < len(names):
            raise UsageError(f"{path}, line {last}: a column's name stands twice, expected each once")
        for values in reader:
            if len(values) != len(names):
                raise UsageError(
                    f"{path}, line {last}: {len(values)} values, expected {len(names)} as in the first line"
                )
            yield f"line {last}", dict(zip(names, values, strict=True))
    except (csv.Error, UnicodeDecodeError):
        raise UsageError(f"{path}, line {last}: is no CSV in UTF-8; {_EXPECTED}") from None


def _column(path: Path, name: str, rows: list[tuple[str, dict[str, Any]]]) -> list[float | str | None]:
    """Numbers if all are, in CSV if all can be; else categories."""
    values = [_value(row.get(name), path, place, name) for place, row in rows]
    numbers = [_number(value) for value in values]
    if all(number is not None for number, value in zip(numbers, values, strict=True) if value is not None):
        for (place, _), number in zip(rows, numbers, strict=True):
            if number is not None and _LARGEST < abs(number) < math.inf:
                raise UsageError(
                    f"{path}, {place}: column {name} is beyond {_LARGEST:g}; expected a smaller number"
                )
        return [number if number is None or math.isfinite(number) else None for number in numbers]
    return [value if value is None or isinstance(value, str) else f"{value:g}" for value in values]


def _value(value: Any, path: Path, place: str, name: str) -> float | str | None:
    if value is None or value == "":
        return None
    if isinstance(value, bool | int | float | Decimal):
        return float(value)
    if isinstance(value, str | dt.date):
        return str(value)
    raise UsageError(f"{path}, {place}: column {name} is a {type(value).__name__}, expected a number or text")


def _number(value: float | str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _ms(value: Any, path: Path, place: str) -> int:
    if isinstance(value, str):
        value = int(value) if value.strip().isdecimal() else _datetime(value.strip())
    if isinstance(value, dt.datetime):
        zoned = value if value.tzinfo else value.replace(tzinfo=dt.UTC)
        return round(zoned.timestamp() * 1_000)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise UsageError(f"{path}, {place}: column {TIME} is no time, expected ms UTC or RFC 3339")


def _datetime(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text)
    except ValueError:
        return None
