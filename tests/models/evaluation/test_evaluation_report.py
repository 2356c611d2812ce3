"""The report says what was found, whole or in part, and needs nothing but itself."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from streamer.models.evaluation.experiment import Scale
from streamer.models.evaluation.report import figures, targets, write_report
from streamer.models.evaluation.report_tables import TABLES, number
from streamer.models.evaluation.run import STEPS
from tests.models.evaluation.made_results import estimate, every_step


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.addresses: list[str] = []
        self.tables = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tables += tag == "table"
        if tag == "img":
            self.images.append(str(found["src"]))
        self.addresses += [str(found[name]) for name in ("href", "src") if name in found]


def written(folder: Path, steps: list[str]) -> tuple[Seen, dict[str, object]]:
    results = every_step()
    write_report(folder, {step: results[step] for step in steps}, Scale())
    seen = Seen()
    seen.feed((folder / "report.html").read_text())
    return seen, json.loads((folder / "report.json").read_text())


def test_every_step_but_the_map_has_a_table() -> None:
    assert set(STEPS) - set(TABLES) == {"map"}
    assert set(every_step()) == set(STEPS)


def test_the_whole_report_has_its_tables_and_plots_in_one_file(tmp_path: Path) -> None:
    seen, document = written(tmp_path, list(STEPS))
    assert len(seen.images) == 8
    assert seen.tables > 15
    assert all(address.startswith("data:image/png;base64,") for address in seen.addresses)
    assert set(document) == {"scale", "note", "figures", "results"}


def test_names_cannot_become_markup(tmp_path: Path) -> None:
    results = every_step()
    results["novelty"]["by_intent"] = {"<script>": results["novelty"]["by_intent"]["a"]}
    write_report(tmp_path, results, Scale())
    assert "<script>" not in (tmp_path / "report.html").read_text()


def test_a_report_of_some_steps_shows_those(tmp_path: Path) -> None:
    seen, document = written(tmp_path, ["novelty"])
    assert seen.images == []
    assert document["figures"] == {"novelty_auroc": 0.9, "novelty_auroc_interval": [0.89, 0.91]}


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        written(tmp_path / name, ["student", "signal"])
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name


def test_figures_have_the_names_that_others_rely_on_and_an_interval_each() -> None:
    found = figures(every_step())
    assert {name for name in found if not name.endswith("_interval")} == {
        "conversion_micro_f1",
        "tile",
        "gap_closed",
        "ece",
        "novelty_auroc",
        "trivago_mrr",
        "shop1999_auc",
    }
    assert found["gap_closed"]["tile_log_loss"] == 0.75
    assert found["gap_closed"]["tile_log_loss_interval"] == [0.74, 0.76]
    assert found["trivago_mrr"] == 0.85


def test_a_target_is_reached_or_not_by_what_was_found() -> None:
    results = every_step()
    assert all(target.reached for target in targets(results) if "ECE" in target.text)
    results["student"]["ece"]["teacher"] = estimate(0.031)
    results["main"]["tiles"]["macro_recall_at_1"]["embedding"]["vs_app_only"]["low"] = -0.001
    missed = [target.text for target in targets(results) if not target.reached]
    assert any("ECE" in text for text in missed)
    assert any("interval without zero" in text for text in missed)


def test_numbers_that_are_not_there_are_dashes() -> None:
    assert number(None) == "-"
    assert number({"value": None, "low": None, "high": None}) == "-"
    assert number({"value": 1.0, "low": None, "high": None}, ".1f") == "1.0"
