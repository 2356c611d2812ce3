"""What the README says of files has to be there."""

from __future__ import annotations

import json
import re
from pathlib import Path

from streamer import sample
from streamer.demo.view import DemoProgress, summary
from streamer.identity.rules import IdentityRules
from streamer.models.bundle import default_bundle, load_bundle
from streamer.models.scorer import Scorer
from streamer.pipeline.counters import ClickCounters
from streamer.pipeline.records import RecordWriter
from streamer.replay.file_source import sessions_of_file
from streamer.rules_from_settings import session_rules
from streamer.schemas import codec
from streamer.settings import load_settings
from tests.identity.stages import Stages

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MODELS = (ROOT / "docs/models.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_file_map_names_what_is_there() -> None:
    rows = CONTRIBUTING.partition("## Where things are")[2].partition("\n## ")[0].splitlines()
    named = [
        name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1] if "|" in row else "")
    ]
    assert len(named) > 10
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "streamer" / name).exists(), name


def test_every_folder_with_code_is_in_the_file_map() -> None:
    file_map = CONTRIBUTING.partition("## Where things are")[2]
    for folder in (*ROOT.glob("streamer/*/"), ROOT / "schemas", ROOT / "models", ROOT / "benchmarks"):
        if any(folder.glob("*.py")):
            assert f"{folder.resolve().relative_to(ROOT)}/" in file_map, folder


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_figures_of_the_shipped_model_are_those_of_its_manifest() -> None:
    metrics = json.loads((ROOT / "models/default/manifest.json").read_text())["metrics"]
    intents, parents = metrics["test"]["intents_against_truth"], metrics["test"]["parents_against_truth"]
    for value in (
        f"{intents['nmi']:.3f} ({intents['nmi_chance']:.3f})",
        f"{parents['nmi']:.3f} ({parents['nmi_chance']:.3f})",
        f"| {metrics['distillation']['accuracy_against_teacher']:.3f} |",
        f"| {metrics['distillation']['ece']:.3f} |",
        f"{intents['sessions']:,} sessions",
    ):
        assert value in MODELS, value


def test_the_evaluation_in_the_readme_is_that_of_the_manifest_and_of_the_report() -> None:
    metrics = json.loads((ROOT / "models/default/manifest.json").read_text())["metrics"]
    figures = json.loads((ROOT / "docs/results/report.json").read_text())["figures"]
    assert {name: metrics[name] for name in figures} == figures
    f1, tile, gap = (figures[name] for name in ("conversion_micro_f1", "tile", "gap_closed"))
    for found, name, form in (
        (gap, "tile_log_loss", ".0%"),
        (gap, "conversion_micro_f1", ".0%"),
        (tile, "log_loss_vs_app_only", "+.1%"),
        (tile, "macro_recall_at_1_vs_app_only", "+.0%"),
        *((f1, name, ".3f") for name in f1 if not name.endswith("_interval")),
        (figures, "ece", ".3f"),
        (figures, "novelty_auroc", ".3f"),
        (figures, "trivago_mrr", ".3f"),
        (figures, "shop1999_auc", ".3f"),
    ):
        low, high = found[f"{name}_interval"]
        assert f"| {found[name]:{form}} [{low:{form}}, {high:{form}}] |" in MODELS, name


def test_the_demo_tells_what_the_readme_says() -> None:
    bundle, rules, counters = (
        load_bundle(default_bundle()),
        session_rules(load_settings(environ={})),
        ClickCounters(),
    )
    sessions, counters = sessions_of_file(sample.path(), rules)
    tally = DemoProgress(clicks_sent=counters.received, counters=counters)
    stages = Stages(IdentityRules())
    for records in RecordWriter(bundle, rules.version).write_all(sessions, Scorer(bundle).score(sessions)):
        tally.see(codec.decode(records.intent)[1])
        stages.attribution.session(records.visitor)
    stages.commit()
    tally.attributed, tally.customers = stages.attribution.progress.counts, stages.latest
    shown = README.partition("$ make demo ARGS=--headless\n")[2].partition("```")[0].splitlines()
    told = [line.split() for line in summary(tally).splitlines()]
    assert len(shown) == 8
    for line in shown:
        assert line.split() in told or line.strip() == "...", line
