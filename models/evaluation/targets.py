"""What was to be reached, beside what was found: each target is one line of the report, reached or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.evaluation.report_tables import number

Json = Mapping[str, Any]

GAP, ECE, NOVELTY, BEHIND = 0.70, 0.03, 0.85, 0.05
TRIVAGO, SHOP = 0.601, 0.795
WEAK_TEACHER = 0.85


@dataclass(frozen=True, slots=True)
class Target:
    text: str
    found: str
    reached: bool


def targets(results: Mapping[str, Json]) -> list[Target]:
    """Judged by the value, not by the bounds of its interval, but where the target speaks of an interval."""
    found: list[Target] = []
    if "main" in results:
        found += _of_main(results["main"])
    if "baselines" in results:
        found.append(_of_baselines(results["baselines"]))
    if "student" in results:
        ece = results["student"]["ece"]["teacher"]
        found.append(Target(f"ECE of at most {ECE}", number(ece), ece["value"] <= ECE))
    if "novelty" in results:
        auroc = results["novelty"]["auroc"]["novelty"]
        text = f"novelty AUROC of at least {NOVELTY} on average over held-out intents"
        found.append(Target(text, number(auroc, ".3f"), auroc["value"] >= NOVELTY))
    if "trivago" in results:
        mrr = results["trivago"]["mrr"][results["trivago"]["chosen_on_validation"]]
        found.append(Target(f"trivago MRR above {TRIVAGO}", number(mrr, ".3f"), mrr["value"] > TRIVAGO))
    if "shop1999" in results:
        auc = results["shop1999"]["auc"][results["shop1999"]["chosen_on_validation"]]
        found.append(Target(f"shop1999 AUC above {SHOP}", number(auc, ".3f"), auc["value"] > SHOP))
    return found


def _of_main(main: Json) -> list[Target]:
    loss, recall = main["tiles"]["log_loss"]["embedding"], main["tiles"]["macro_recall_at_1"]["embedding"]
    f1 = main["conversions"]["micro_f1"]
    gap_loss, gap_f1 = loss["gap_closed"], f1["embedding"]["gap_closed"]
    behind = f1["distilled_soft"]["value"] / f1["embedding"]["value"] - 1.0
    alone = max(("embedding", "distilled_soft"), key=lambda name: f1[name]["value"])
    both = f1["both"]["value"] / f1[alone]["value"] - 1.0
    return [
        Target(
            "embedding closes 70 % of the gap, tile log loss", number(gap_loss, ".0%"), _at_least(gap_loss)
        ),
        Target(
            "embedding closes 70 % of the gap, conversion micro F1", number(gap_f1, ".0%"), _at_least(gap_f1)
        ),
        Target(
            "tile macro Recall@1 above app only, interval without zero",
            number(recall["vs_app_only"], "+.1%"),
            recall["vs_app_only"]["low"] > 0,
        ),
        *(
            Target(
                f"embedding above labels of a teacher of {point['accuracy']:.0%}",
                number(point["embedding_above"]["teacher"], "+.1%"),
                point["embedding_above"]["teacher"]["value"] > 0,
            )
            for point in main["teacher_curve"]
            if point["accuracy"] <= WEAK_TEACHER
        ),
        Target("distilled labels at most 5 % behind the embedding", f"{behind:+.1%}", behind >= -BEHIND),
        Target("embedding and labels not worse than the better of them", f"{both:+.1%}", both >= 0.0),
    ]


def _at_least(estimate: Json) -> bool:
    return bool(estimate["value"] >= GAP)


def _of_baselines(baselines: Json) -> Target:
    others = baselines["ours_versus"]
    ahead = [name for name, each in others.items() if each["value"] > 0]
    not_ahead = ", ".join(sorted(set(others) - set(ahead)))
    told = f"{len(ahead)} of {len(others)}" + (f"; not of {not_ahead}" if not_ahead else "")
    return Target("ahead of every baseline with 2,000 labels", told, not not_ahead)
