"""The figures of an evaluation that stand in the JSON report and in a bundle's manifest.

Each figure NAME has its interval beside it as `NAME_interval`: [low, high], bounds inclusive. A figure whose
step wasn't run isn't there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

LABELLERS = ("embedding", "teacher", "distilled_hard", "distilled_soft", "both")
NOTE = (
    "simulated visitors, means over paired seeds of simulator and training; the teacher is simulated, sees"
    " only what a session shows, and gives its best reading of it in 85 % of the sessions; the embedding is"
    " that of the training recipe, trained anew on each seed"
)


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
