"""The report: report.json with figures and every step's result, report.html with targets, tables and plots.

The page needs no network and no script; what wasn't run isn't shown. Figures also go into a bundle's
manifest: each figure NAME has its interval beside it as `NAME_interval`, [low, high], bounds inclusive.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from streamer.models.evaluation import plots
from streamer.models.evaluation.experiment import Scale
from streamer.models.evaluation.report_tables import TABLES, Table, number
from streamer.models.whole_file import write_whole

Json = dict[str, Any]

_PLOTS: tuple[tuple[str, str, str, Callable[[Any], bytes]], ...] = (
    ("learning", "learning", "Few labels: conversions over the number of labelled rows", plots.learning),
    ("teachers", "main", "Teachers: labels against the embedding", plots.teachers),
    ("scaling", "scaling", "Scale: the gap closed over sessions to pretrain on", plots.scaling),
    ("signal", "signal", "Signal strength: how much of the gap is closed", plots.signal),
    ("reliability", "student", "Calibration of the student on test visitors", plots.reliability),
    ("abstention", "student", "Abstention: right answers over the share answered", plots.abstention),
    ("map", "map", "The embedding in the plane (t-SNE), coloured by latent intent", plots.embedding_map),
    ("confusion", "student", "Confusion of the student with latent intents", plots.confusion),
)
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1d2430}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.4rem}
table{border-collapse:collapse;margin:.6rem 0;font-size:13px}
th,td{padding:.25rem .7rem;border-bottom:1px solid #e4e6ea;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:#5a6372;font-weight:600}
.yes{color:#2c7a47}.no{color:#b03a2e}.note{color:#5a6372;font-size:13px}
figure{margin:1rem 0}img{max-width:100%}.scroll{overflow-x:auto}
"""

GAP, ECE, NOVELTY, BEHIND = 0.70, 0.03, 0.85, 0.05
TRIVAGO, SHOP = 0.601, 0.795
WEAK_TEACHER = 0.85
LABELLERS = ("embedding", "teacher", "distilled_hard", "distilled_soft", "both")
NOTE = (
    "simulated visitors, means over paired seeds of simulator and training; the teacher is simulated, sees"
    " only what a session shows, and gives its best reading of it in 85 % of the sessions; the embedding is"
    " that of the training recipe, trained anew on each seed"
)


def write_report(out: Path, results: Mapping[str, Json], scale: Scale) -> None:
    """Writes report.json, report.html and the plots beside them."""
    document = {"scale": scale.as_dict(), "note": NOTE, "figures": figures(results), "results": dict(results)}
    write_whole(out / "report.json", (json.dumps(document, indent=1) + "\n").encode())
    drawn = [(name, title, draw(results[step])) for name, step, title, draw in _PLOTS if step in results]
    for name, _, png in drawn:
        write_whole(out / f"{name}.png", png)
    write_whole(out / "report.html", ("\n".join(_page(results, scale, drawn)) + "\n").encode())


def _page(
    results: Mapping[str, Json], scale: Scale, drawn: Iterable[tuple[str, str, bytes]]
) -> Iterable[str]:
    yield "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Evaluation</title>"
    yield f"<style>{_STYLE}</style></head><body><h1>Evaluation</h1>"
    yield f"<p class='note'>{escape(NOTE)}.</p>"
    yield (
        f"<p class='note'>{scale.visitors:,} visitors per seed, seeds {', '.join(map(str, scale.seeds))};"
        f" 95 % intervals from {scale.draws:,} draws of seeds and visitors, in brackets; visitors are split"
        " 60/15/25 by a hash; everything is fitted on training and validation visitors.</p>"
    )
    yield from _targets(targets(results))
    for step, tables in TABLES.items():
        if step in results:
            for table in tables(results[step]):
                yield from _table(table)
    for _, title, png in drawn:
        image = base64.b64encode(png).decode()
        yield f"<h2>{escape(title)}</h2>"
        yield f"<figure><img alt='{escape(title)}' src='data:image/png;base64,{image}'></figure>"
    yield "</body></html>"


def _targets(found: list[EvaluationTarget]) -> Iterable[str]:
    if not found:
        return
    yield "<h2>What was to be reached</h2><div class='scroll'><table>"
    yield "<tr><th>target</th><th>found</th><th>reached</th></tr>"
    for target in found:
        word, style = ("yes", "yes") if target.reached else ("no", "no")
        yield (
            f"<tr><td>{escape(target.text)}</td><td>{escape(target.found)}</td>"
            f"<td class='{style}'>{word}</td></tr>"
        )
    yield "</table></div>"


def _table(table: Table) -> Iterable[str]:
    yield f"<h2>{escape(table.title)}</h2>"
    if table.note:
        yield f"<p class='note'>{escape(table.note)}</p>"
    yield "<div class='scroll'><table><tr>"
    yield "".join(f"<th>{escape(name)}</th>" for name in table.columns) + "</tr>"
    for row in table.rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</table></div>"


@dataclass(frozen=True, slots=True)
class EvaluationTarget:
    text: str
    found: str
    reached: bool


def targets(results: Mapping[str, Json]) -> list[EvaluationTarget]:
    """Judged by the value; by the bounds of its interval only where the target names an interval."""
    found: list[EvaluationTarget] = []
    if "main" in results:
        found += _of_main(results["main"])
    if "baselines" in results:
        found.append(_of_baselines(results["baselines"]))
    if "student" in results:
        ece = results["student"]["ece"]["teacher"]
        found.append(EvaluationTarget(f"ECE of at most {ECE}", number(ece), ece["value"] <= ECE))
    if "novelty" in results:
        auroc = results["novelty"]["auroc"]["novelty"]
        text = f"novelty AUROC of at least {NOVELTY} on average over held-out intents"
        found.append(EvaluationTarget(text, number(auroc, ".3f"), auroc["value"] >= NOVELTY))
    if "trivago" in results:
        mrr = results["trivago"]["mrr"][results["trivago"]["chosen_on_validation"]]
        found.append(
            EvaluationTarget(f"trivago MRR above {TRIVAGO}", number(mrr, ".3f"), mrr["value"] > TRIVAGO)
        )
    if "shop1999" in results:
        auc = results["shop1999"]["auc"][results["shop1999"]["chosen_on_validation"]]
        found.append(EvaluationTarget(f"shop1999 AUC above {SHOP}", number(auc, ".3f"), auc["value"] > SHOP))
    return found


def _of_main(main: Json) -> list[EvaluationTarget]:
    loss, recall = main["tiles"]["log_loss"]["embedding"], main["tiles"]["macro_recall_at_1"]["embedding"]
    f1 = main["conversions"]["micro_f1"]
    gap_loss, gap_f1 = loss["gap_closed"], f1["embedding"]["gap_closed"]
    behind = f1["distilled_soft"]["value"] / f1["embedding"]["value"] - 1.0
    alone = max(("embedding", "distilled_soft"), key=lambda name: f1[name]["value"])
    both = f1["both"]["value"] / f1[alone]["value"] - 1.0
    return [
        EvaluationTarget(
            "embedding closes 70 % of the gap, tile log loss", number(gap_loss, ".0%"), _at_least(gap_loss)
        ),
        EvaluationTarget(
            "embedding closes 70 % of the gap, conversion micro F1", number(gap_f1, ".0%"), _at_least(gap_f1)
        ),
        EvaluationTarget(
            "tile macro Recall@1 above app only, interval without zero",
            number(recall["vs_app_only"], "+.1%"),
            recall["vs_app_only"]["low"] > 0,
        ),
        *(
            EvaluationTarget(
                f"embedding above labels of a teacher of {point['accuracy']:.0%}",
                number(point["embedding_above"]["teacher"], "+.1%"),
                point["embedding_above"]["teacher"]["value"] > 0,
            )
            for point in main["teacher_curve"]
            if point["accuracy"] <= WEAK_TEACHER
        ),
        EvaluationTarget(
            "distilled labels at most 5 % behind the embedding", f"{behind:+.1%}", behind >= -BEHIND
        ),
        EvaluationTarget(
            "embedding and labels not worse than the better of them", f"{both:+.1%}", both >= 0.0
        ),
    ]


def _at_least(estimate: Json) -> bool:
    return bool(estimate["value"] >= GAP)


def _of_baselines(baselines: Json) -> EvaluationTarget:
    others = baselines["ours_versus"]
    ahead = [name for name, each in others.items() if each["value"] > 0]
    not_ahead = ", ".join(sorted(set(others) - set(ahead)))
    found = f"{len(ahead)} of {len(others)}" + (f"; not of {not_ahead}" if not_ahead else "")
    return EvaluationTarget("ahead of every baseline with 2,000 labels", found, not not_ahead)


def figures(results: Mapping[str, Json]) -> Json:
    found: Json = {}
    if "main" in results:
        found |= _of_tasks(results["main"])
    if "student" in results:
        _put(found, "ece", results["student"]["ece"]["teacher"])
    if "novelty" in results:
        _put(found, "novelty_auroc", results["novelty"]["auroc"]["novelty"])
    if "trivago" in results:
        of_trivago = results["trivago"]
        _put(found, "trivago_mrr", of_trivago["mrr"][of_trivago["chosen_on_validation"]])
    if "shop1999" in results:
        of_shop = results["shop1999"]
        _put(found, "shop1999_auc", of_shop["auc"][of_shop["chosen_on_validation"]])
    return found


def _of_tasks(main: Json) -> Json:
    tiles, conversions = main["tiles"], main["conversions"]
    found: Json = {"conversion_micro_f1": {}, "tile": {}, "gap_closed": {}}
    for name in LABELLERS:
        _put(found["conversion_micro_f1"], name, conversions["micro_f1"][name])
    for metric in ("log_loss", "macro_recall_at_1"):
        _put(found["tile"], f"{metric}_vs_app_only", tiles[metric]["embedding"]["vs_app_only"])
    _put(found["gap_closed"], "tile_log_loss", tiles["log_loss"]["embedding"]["gap_closed"])
    _put(found["gap_closed"], "conversion_micro_f1", conversions["micro_f1"]["embedding"]["gap_closed"])
    return found


def _put(found: Json, name: str, estimate: Mapping[str, float]) -> None:
    found[name] = estimate["value"]
    found[f"{name}_interval"] = [estimate["low"], estimate["high"]]
