"""What a probe reads: features in three forms, outcomes with their lines, sessions as they were known."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamer.backtest.probe_features import read_features
from streamer.backtest.probe_sessions import read_probe_outcomes, scored_sessions, sessions_of_replay
from streamer.backtest.tasks import customer
from streamer.errors import UsageError
from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.evaluation.features import NEVER
from streamer.models.evaluation.task_rows import LastClosedSession
from streamer.models.scorer import Scorer
from streamer.schemas.click import from_document, to_document
from tests.backtest.made import HOUR_MS, a_row, write, write_users
from tests.models.evaluation.probe_world import a_session

ROWS = [
    {"visitor_id": "a", "time": 1_700_000_000_000, "age": 31, "town": "x", "joined": True},
    {"visitor_id": "b", "time": 1_700_000_000_500, "age": None, "town": "7", "joined": False},
]
EXPECTED = {"age": [31.0, None], "town": ["x", "7"], "joined": [1.0, 0.0]}


def as_json(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"\n".join(map(orjson.dumps, rows)))
    return path


def test_json_lines_and_parquet_mean_the_same(tmp_path: Path) -> None:
    as_parquet = tmp_path / "features.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), as_parquet)
    for path in (as_json(tmp_path / "features.jsonl", ROWS), as_parquet):
        id_column, features = read_features(path)
        assert id_column == "visitor_id"
        assert features.owners == ["a", "b"]
        assert features.at.tolist() == [1_700_000_000_000, 1_700_000_000_500]
        assert features.columns == EXPECTED


def test_csv_has_numbers_where_all_of_a_column_are(tmp_path: Path) -> None:
    path = tmp_path / "features.csv"
    path.write_text(
        'user_id,time,age,town,note\n7,2023-11-14T22:13:20Z,31,x,"a, b"\n8,1700000000500,,7,nan\n', "utf-8"
    )
    id_column, features = read_features(path)
    assert id_column == "user_id"
    assert features.owners == [customer("7"), customer("8")]
    assert features.at.tolist() == [1_700_000_000_000, 1_700_000_000_500]
    assert features.columns == {"age": [31.0, None], "town": ["x", "7"], "note": ["a, b", "nan"]}


def test_times_of_parquet_without_a_zone_are_utc(tmp_path: Path) -> None:
    path = tmp_path / "features.parquet"
    row = {"visitor_id": "a", "time": dt.datetime(2023, 11, 14, 22, 13, 20), "age": 1}
    pq.write_table(pa.Table.from_pylist([row]), path)
    assert read_features(path).features.at.tolist() == [1_700_000_000_000]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no rows; expected visitor_id or user_id, time, and at least one feature"),
        ("time,age\n1,2\n", "no column visitor_id or user_id; expected one of the two"),
        ("visitor_id,user_id,time,age\na,b,1,2\n", "both visitor_id and user_id; expected one"),
        ("visitor_id,age\na,2\n", "no column time; expected"),
        ("visitor_id,time\na,2\n", "no column beside visitor_id and time"),
        ("visitor_id,time,age\na,1,2\n,1,2\n", "line 3: no visitor_id"),
        ("visitor_id,time,age\na,noon,2\n", "line 2: column time is no time, expected ms UTC or RFC 3339"),
        (
            "visitor_id,time,age\na,1,2\na,1,-1e200\n",
            "line 3: column age is beyond 1e+100; expected a smaller",
        ),
        ("visitor_id,time,age\na,1\n", "line 2: 2 values, expected 3 as in the first line"),
        ("visitor_id,time,age,age\na,1,2,3\n", "line 1: a column's name stands twice"),
        ('{"visitor_id": "a", "time": 1, "age": 2}\n[]\n', "line 2: expected a JSON object"),
        ('{"visitor_id": "a", "time": 1, "age": [2]}\n', "line 1: column age is a list, expected a number"),
    ],
)
def test_features_that_can_not_be_read_are_named_by_line_and_column(
    tmp_path: Path, content: str, message: str
) -> None:
    path = tmp_path / "features"
    path.write_text(content, "utf-8")
    with pytest.raises(UsageError) as found:
        read_features(path)
    assert message in str(found.value)
    assert str(path) in str(found.value)


def test_outcomes_have_their_lines_and_clicked_tiles_are_outcomes_too(tmp_path: Path) -> None:
    lines = [
        {"visitor_id": "a", "time": 5, "outcome": "loan"},
        {"visitor_id": "a", "time": 6, "tiles": ["x", "y"], "clicked": "y"},
        {"visitor_id": "a", "time": 7, "tiles": ["x", "y"], "clicked": None},
        {"user_id": "a", "time": 8, "outcome": "loan"},
    ]
    path = as_json(tmp_path / "o.jsonl", lines)
    found = read_probe_outcomes(path, "visitor_id")
    assert [(o.owner, o.at, o.name) for o in found] == [("a", 5, "loan"), ("a", 6, "clicked y")]
    assert found[1].place == f"{path}, line 2"
    assert [o.owner for o in read_probe_outcomes(path, "user_id")] == [customer("a")]
    with pytest.raises(UsageError, match="no outcome with user_id"):
        read_probe_outcomes(as_json(path, lines[:3]), "user_id")


def test_sessions_of_visitors_come_from_the_first_bundle_without_bots(tmp_path: Path) -> None:
    rows = [
        a_row("s1", "one", visitor_id="a", embedding=[1.0, 2.0]),
        a_row("s1", "two", visitor_id="a", embedding=[3.0, 4.0]),
        a_row("s2", "one", visitor_id="a", is_bot=True),
        a_row("s3", "one", visitor_id="b"),
    ]
    known = sessions_of_replay(write(tmp_path / "rows.parquet", rows), "visitor_id", {"a"})
    assert [session.session_id for session in known.sessions] == ["s1"]
    assert known.embeddings.tolist() == [[1.0, 2.0]]
    assert known.embedding_space == "space"
    assert known.closed.known_at.tolist() == [10 * HOUR_MS]


def test_sessions_of_customers_are_known_from_their_records_time_on(tmp_path: Path) -> None:
    """Not before the session has closed either, though a record may have had it while it was open."""
    rows = [a_row("s1", "m", embedding=[1.0, 2.0]), a_row("s2", "m", embedding=[3.0, 4.0])]
    records = [
        {"user_id": "c", "as_of": 9 * HOUR_MS, "model_version": "m", "session_id": "s2"},
        {"user_id": "c", "as_of": 11 * HOUR_MS, "model_version": "m", "session_id": "s1"},
        {"user_id": "c", "as_of": 12 * HOUR_MS, "model_version": "m"},
        {"user_id": "other", "as_of": 11 * HOUR_MS, "model_version": "m", "session_id": "s1"},
    ]
    path = write_users(write(tmp_path / "rows.parquet", rows), records)
    known = sessions_of_replay(path, "user_id", {customer("c")})
    last = LastClosedSession(known.closed)

    def session_at(hour: float) -> str | None:
        row = last.last_before(customer("c"), int(hour * HOUR_MS))
        return None if row is None else known.sessions[row].session_id

    assert [session_at(hour) for hour in (9.5, 10, 10.5, 11, 11.5, 12.5)] == [
        None,
        None,
        "s2",
        "s2",
        "s1",
        None,
    ]
    assert known.closed.closed_at.tolist()[-1] == NEVER


def test_sessions_of_clicks_are_scored_and_of_customers_those_with_a_login() -> None:
    bundle = load_bundle(default_bundle())
    anonymous = a_session(1, "v", 5 * HOUR_MS)
    logged_in = from_document(to_document(a_session(2, "v", 6 * HOUR_MS)) | {"user_id": "c"})
    (scored,) = Scorer(bundle).score([anonymous])
    of_visitor = scored_sessions([anonymous, logged_in], bundle, "visitor_id", {"v"})
    assert [s.session_id for s in of_visitor.sessions] == ["s1", "s2"]
    assert np.array_equal(of_visitor.embeddings[0], np.array(scored.embedding, dtype=np.float64))
    assert of_visitor.embedding_space == bundle.embedding_space
    of_customer = scored_sessions([anonymous, logged_in], bundle, "user_id", {customer("c")})
    assert [s.session_id for s in of_customer.sessions] == ["s2"]
