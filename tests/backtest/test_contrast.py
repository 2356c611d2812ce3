"""Where two bundles differ, counted and with examples; vectors only within one space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamer.backtest.page import page
from streamer.backtest.report import backtest, write_report
from streamer.errors import UsageError
from tests.backtest.made import HOUR_MS, a_row, a_summary, write

SIDES = a_summary("a", "b")


def contrast(tmp_path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = backtest(write(tmp_path / "rows.parquet", rows), SIDES, None)["contrasts"][0]
    return found


def test_flips_are_counted_with_examples_and_agreement_is_not(tmp_path: Path) -> None:
    rows = []
    for n, (one, other) in enumerate([("cards", "loans")] * 4 + [("cards", "cards")] * 5 + [("cards", None)]):
        rows += [a_row(f"s{n}", "a", one), a_row(f"s{n}", "b", other)]
    flips = contrast(tmp_path, rows)["flips"]
    assert (flips["sessions"], flips["share"]) == (5, 0.5)
    first, second = flips["commonest"]
    assert (first["a"], first["b"], first["sessions"]) == ("cards", "loans", 4)
    assert [example["session_id"] for example in first["examples"]] == ["s0", "s1", "s2"]
    assert first["examples"][0]["paths"] == ["/cards"]
    assert second["b"] == "(novel)"


def test_sessions_that_one_bundle_could_not_score_are_reported(tmp_path: Path) -> None:
    rows = [a_row("s0", "a"), a_row("s0", "b"), a_row("s1", "a"), a_row("s2", "b"), a_row("s3", "b")]
    assert contrast(tmp_path, rows)["sessions"] == {"both": 1, "only_a": 1, "only_b": 2}


def test_cosines_are_reported_within_one_space(tmp_path: Path) -> None:
    rows = []
    for n, vector in enumerate(([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0])):
        rows += [a_row(f"s{n}", "a"), a_row(f"s{n}", "b", embedding=vector)]
    vectors = contrast(tmp_path, rows)["vectors"]
    assert vectors["comparable"]
    assert (vectors["cosine"]["0"], vectors["cosine"]["0.5"], vectors["cosine"]["1"]) == (-1, 0, 1)


def test_vectors_of_two_spaces_are_never_compared_but_their_neighbourhoods_are(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    rows = []
    for n in range(60):
        vector = chance.normal(size=8)
        turned = vector[::-1] * 3  # the same neighbourhoods in another space
        rows += [
            a_row(f"s{n}", "a", embedding=vector.tolist()),
            a_row(f"s{n}", "b", embedding=turned.tolist(), embedding_space="other"),
        ]
    vectors = contrast(tmp_path, rows)["vectors"]
    assert not vectors["comparable"]
    assert "cosine" not in vectors
    assert "spaces differ" in vectors["because"]
    assert vectors["neighbour_overlap"]["share"] == 1
    assert vectors["neighbour_overlap"]["by_chance"] == pytest.approx(10 / 59)


def test_the_same_id_with_another_name_means_another_taxonomy(tmp_path: Path) -> None:
    rows = [a_row("s0", "a"), a_row("s0", "b")]
    assert contrast(tmp_path, rows)["same_taxonomy"]
    rows[1]["intents"][0]["label"] = "loans"
    assert not contrast(tmp_path, rows)["same_taxonomy"]


def test_label_shares_are_reported_by_hour_of_closing_or_by_day(tmp_path: Path) -> None:
    rows = [a_row("s0", "a"), a_row("s1", "a", "loans", closed_at=11 * HOUR_MS + 5)]
    shares = backtest(write(tmp_path / "r.parquet", rows), SIDES, None)["label_shares"]
    assert shares["step_ms"] == HOUR_MS
    hours = {str(10 * HOUR_MS): {"cards": 1}, str(11 * HOUR_MS): {"loans": 1}}
    assert shares["bundles"] == {"a": hours}
    rows.append(a_row("s2", "a", closed_at=100 * 24 * HOUR_MS))
    assert (
        backtest(write(tmp_path / "r.parquet", rows), SIDES, None)["label_shares"]["step_ms"] == 24 * HOUR_MS
    )


def test_the_page_escapes_what_bundles_and_sites_named(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    rows = [a_row("s0", "a", evil), a_row("s0", "b"), a_row("s1", "a"), a_row("s1", "b", evil)]
    for row in rows:
        row["clicks"][0]["path"] = f"/{evil}"
    document = backtest(write(tmp_path / "rows.parquet", rows), SIDES, None)
    beside = write_report(document, tmp_path / "out" / "report.html", page(document))
    written = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in written
    assert "&lt;script&gt;" in written
    assert beside.name == "report.json"


def test_one_bundle_alone_is_nothing_to_compare(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", [a_row("s0", "a")])
    with pytest.raises(UsageError, match="at least two --bundle"):
        backtest(path, a_summary("a"), None)
