"""Which bundle serves better, from outcomes; nothing that was not known yet may help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from streamer.backtest.page import page
from streamer.backtest.report import backtest
from streamer.backtest.tasks import ScoredSessions, contenders, measure, read_outcomes
from streamer.errors import UsageError
from streamer.models.evaluation.features import NEVER, FeatureTable, LeakError
from streamer.models.evaluation.task_rows import ClosedSessions, Outcomes, tile_rows
from tests.backtest.made import HOUR_MS, a_row, a_summary, write, write_users

TILES = ["cards", "loans", "homes", "funds"]


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"\n".join(map(orjson.dumps, lines)))
    return path


def a_world(tmp_path: Path, visitors: int = 900) -> tuple[Path, Path]:
    """Each visitor wants one thing, and acts on it an hour after the session closed; bundle `good` knows
    what it is four times in five, bundle `bad` knows nothing."""
    chance = np.random.default_rng(5)
    rows, lines = [], []
    for n in range(visitors):
        wanted = int(chance.integers(len(TILES)))
        seen = wanted if chance.random() < 0.8 else int(chance.integers(len(TILES)))
        good = np.eye(len(TILES))[seen] + chance.normal(size=len(TILES)) * 0.1
        for model, vector in (("good", good), ("bad", chance.normal(size=len(TILES)))):
            label = TILES[int(np.argmax(vector))]
            rows.append(a_row(f"s{n}", model, label, visitor_id=f"v{n}", embedding=vector.tolist()))
        at = 11 * HOUR_MS + n
        shown = chance.permutation(TILES).tolist()
        lines.append({"visitor_id": f"v{n}", "time": at, "tiles": shown, "clicked": TILES[wanted]})
        if chance.random() < 0.5:
            lines.append({"visitor_id": f"v{n}", "time": at + 5, "outcome": TILES[wanted]})
    return write(tmp_path / "rows.parquet", rows), written(tmp_path / "outcomes.jsonl", lines)


def test_a_good_bundle_is_distinguished_from_a_bad_one_with_intervals(tmp_path: Path) -> None:
    rows, outcomes = a_world(tmp_path)
    document = backtest(rows, a_summary("bad", "good"), read_outcomes(outcomes))
    found = document["outcomes"]
    for task, metric in (("tiles", "macro_recall_at_1"), ("conversions", "micro_f1")):
        for kind in ("embedding", "intents"):
            change = found[task]["metrics"][metric][f"good {kind}"]["against_first"]
            assert change["low"] > 0.1, (task, kind, change)
            assert change["p_holm"] < 0.01
    assert found["tiles"]["metrics"]["log_loss"]["good embedding"]["against_first"]["high"] < 0
    assert "against_first" not in found["tiles"]["metrics"]["log_loss"]["bad embedding"]
    assert "good embedding" in page(document)


def test_outcomes_of_customers_are_joined_with_their_records_of_that_time(tmp_path: Path) -> None:
    """The same world by customer: at the outcome's time each record shows the session, a minute later none is
    left, and the file of sessions doesn't say whose they are."""
    rows, outcomes = a_world(tmp_path)
    lines = [orjson.loads(line) for line in outcomes.read_bytes().splitlines()]
    renamed = [{"user_id": line.pop("visitor_id").replace("v", "c"), **line} for line in lines]
    written(outcomes, renamed)
    records = []
    for row in pq.read_table(rows).to_pylist():
        user = row["visitor_id"].replace("v", "c")
        records.append(row | {"user_id": user, "as_of": row["closed_at"]})
        left = {"user_id": user, "as_of": 12 * HOUR_MS, "model_version": row["model_version"]}
        records.append(left)
    found = measure(write_users(rows, records), ["bad", "good"], read_outcomes(outcomes), seed=1)
    change = found["tiles"]["metrics"]["macro_recall_at_1"]["good embedding"]["against_first"]
    assert change["low"] > 0.1
    assert sum(found["tiles"]["rows"].values()) == 900
    assert sum(found["conversions"]["rows"].values()) == 900
    # A day later nobody's record is left.
    written(outcomes, [line | {"time": line["time"] + 24 * HOUR_MS} for line in renamed])
    later = measure(rows, ["bad", "good"], read_outcomes(outcomes), seed=1)
    assert later["tiles"] == {"skipped": "0 train rows, expected at least 50"}


def test_outcomes_of_customers_need_their_records(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.parquet", [a_row("s", "m")])
    outcomes = written(tmp_path / "o.jsonl", [{"user_id": "c", "time": 1, "outcome": "loans"}])
    with pytest.raises(UsageError, match=r"rows\.users\.parquet: cannot be read"):
        measure(rows, ["m"], read_outcomes(outcomes), seed=1)


def test_too_few_rows_are_said_and_not_measured(tmp_path: Path) -> None:
    rows, outcomes = a_world(tmp_path, visitors=30)
    found = measure(rows, ["bad", "good"], read_outcomes(outcomes), seed=1)
    assert "expected at least" in found["tiles"]["skipped"]


def outcomes_at(time: int) -> Outcomes:
    user = {
        "user_id": "v",
        "linked_visitor_id": "v",
        "age": 0,
        "tenure_months": 0,
        "device": "",
        "holdings": [],
    }
    return Outcomes([user], [{"user_id": "v", "time": time, "tiles": ["a", "b"], "clicked": "a"}], [])


@pytest.mark.parametrize(
    ("at", "rows"), [(9 * HOUR_MS + 60_001, 0), (10 * HOUR_MS, 0), (10 * HOUR_MS + 1, 1)]
)
def test_a_session_that_ended_but_had_not_closed_helps_nobody(at: int, rows: int) -> None:
    table = ClosedSessions(("v",), np.array([9 * HOUR_MS]), np.array([10 * HOUR_MS]))
    assert len(tile_rows(outcomes_at(at), table).decisions.at) == rows


def test_a_join_on_the_sessions_end_would_be_caught_as_a_leak() -> None:
    """The mistake that this product's users would make first: `ended_at` in place of `closed_at`."""
    closed = ClosedSessions(("v",), np.array([9 * HOUR_MS]), np.array([10 * HOUR_MS]))
    ended = ClosedSessions(("v",), np.array([9 * HOUR_MS]), np.array([9 * HOUR_MS + 60_000]))
    decisions = tile_rows(outcomes_at(9 * HOUR_MS + 120_000), ended).decisions
    floor = FeatureTable("history", np.zeros((1, 1)), np.array([NEVER]))
    scored = ScoredSessions(closed, {"m embedding": np.ones((1, 2))})
    with pytest.raises(LeakError, match="expected known before decided"):
        contenders(floor, scored, decisions, None)


@pytest.mark.parametrize(
    "line",
    [
        {"visitor_id": "v", "time": 1},
        {"visitor_id": "v", "time": 1, "tiles": ["a"], "clicked": "b"},
        {"visitor_id": "v", "time": "soon", "outcome": "a"},
        {"time": 1, "outcome": "a"},
        {"visitor_id": "v", "user_id": "c", "time": 1, "outcome": "a"},
        {"visitor_id": "v", "time": 1, "tiles": ["a", "b", "c"], "clicked": None},
    ],
)
def test_a_broken_outcome_is_refused_by_its_line(tmp_path: Path, line: dict[str, Any]) -> None:
    sound = {"visitor_id": "v", "time": "2025-01-01T00:00:00Z", "tiles": ["a", "b"], "clicked": None}
    path = written(tmp_path / "o.jsonl", [sound, line])
    with pytest.raises(UsageError, match="line 2"):
        read_outcomes(path)
