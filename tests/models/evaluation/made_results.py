"""Results of all steps as they come out of a store, with made-up numbers."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


LABELLERS = ("embedding", "teacher", "distilled_hard", "distilled_soft", "both")


def estimate(value: float, **more: Any) -> Json:
    return {"value": value, "low": value - 0.01, "high": value + 0.01, **more}


def contenders(*names: str, floor: float = 0.1, oracle: float = 0.3) -> Json:
    found: Json = {"app_only": estimate(floor)}
    for place, name in enumerate(names):
        change = estimate(0.5 + 0.01 * place, p_holm=0.001)
        found[name] = estimate(0.25 - 0.002 * place, vs_app_only=change, gap_closed=estimate(0.75))
    return {**found, "oracle": estimate(oracle, vs_app_only=estimate(2.0, p_holm=0.001))}


def tasks(*names: str) -> Json:
    return {
        "tiles": {"log_loss": contenders(*names), "macro_recall_at_1": contenders(*names)},
        "conversions": {"micro_f1": contenders(*names)},
    }


def main() -> Json:
    above = {name: estimate(0.05, p_holm=0.01) for name in LABELLERS[1:]}
    point = {name: estimate(0.2) for name in LABELLERS} | {"embedding_above": above}
    return {
        **tasks(*LABELLERS),
        "by_seed": {"11": tasks(*LABELLERS)},
        "embedding_versus": {"log_loss": above, "micro_f1": above},
        "teacher_curve": [{"accuracy": accuracy, **point} for accuracy in (0.7, 0.85, 0.95)],
    }


def student() -> Json:
    curve = [{"answered": 0.5, "accuracy": 0.9}, {"answered": 1.0, "accuracy": 0.8}]
    return {
        "ece": {name: estimate(0.02) for name in ("teacher", "first_answer", "hard_student", "truth")},
        "accuracy_against_teacher": 0.8,
        "accuracy_against_truth": 0.7,
        "teacher_against_truth": 0.7,
        "reliability": [{"claimed": 0.5, "right": 0.48, "rows": 10}],
        "abstention": {"against_teacher": curve, "against_truth": curve},
        "confusion": {"names": ["cards <new>", "loans"], "counts": [[9, 1], [2, 8]]},
    }


def transfer_row(metric: Json) -> Json:
    return {
        "concept_shift": 0.3,
        "fitted_on": "logged_in",
        "tested_on": "never_login",
        "tile_log_loss": metric,
        "conversion_micro_f1": metric,
    }


def history() -> Json:
    forms = ("embedding", "intents")
    names = [f"{what}_{form}" for what in ("latest", "profile", "both") for form in forms]
    change = {name: estimate(0.02, p_holm=0.2) for name in names if not name.startswith("latest")}
    metrics = {"tiles": ("log_loss", "macro_recall_at_1"), "conversions": ("micro_f1",)}
    rows = {
        task: {
            "metrics": {metric: contenders(*names) for metric in of_task},
            "against_latest": dict.fromkeys(of_task, change),
        }
        for task, of_task in metrics.items()
    }
    lives = {f"profile_{form}": {"1": estimate(0.01), "30": estimate(-0.01)} for form in forms}
    return {
        "conditions": {"right ties": {"all": rows, "several": rows}},
        "half_lives": dict.fromkeys(("log_loss", "macro_recall_at_1", "micro_f1"), lives),
    }


def few_labels() -> Json:
    level = {"labels": 100, "all": False, "auc": {"hand": estimate(0.7), "fused": estimate(0.8)}}
    return {
        "rows": 20,
        "tested": 5,
        "positive_share": 0.3,
        "folds": 1,
        "seeds": 3,
        "draws": 8,
        "levels": [{**level, "gain_over_hand": {"fused": estimate(0.1)}}],
    }


def scaling() -> Json:
    """A bundle, more sessions than it had, and fewer without prototypes that were learnt from for longer."""
    names = ("embedding", "embedding_and_memberships")
    metrics = ("log_loss", "macro_recall_at_1", "micro_f1")
    gained = {metric: dict.fromkeys(names, estimate(0.03)) for metric in metrics}
    alone = {metric: {"embedding": estimate(-0.1)} for metric in metrics}
    more = {"visitors": 16_000, "sessions": 28_000, "epochs": 8, "cpu_seconds": 300.0}
    fewer = {"visitors": 60, "sessions": 100, "epochs": 64, "cpu_seconds": 1.5}
    return {
        "bundle": {"sessions": 14_000, "epochs": 8, **tasks(*names)},
        "points": [
            {**more, "gained": gained, **tasks(*names)},
            {**fewer, "gained": alone, **tasks("embedding")},
        ],
        "seeds": 4,
        "visitors": 17_000,
    }


def slices(bundle: Json | None = None) -> Json:
    """A slice that is worse, one that is better, one that is neither, and one that nobody can tell of."""
    metrics = ("label_right", "abstained")

    def cell(metric: str, slice_: str, value: float, verdict: str) -> Json:
        about = {"metric": metric, "dimension": "device", "slice": slice_, "rows": 400, "visitors": 200}
        return about | estimate(value, rest=0.9, gap=estimate(value - 0.9), p_holm=0.004, verdict=verdict)

    return {
        "bundle": bundle or {},
        "data": "simulated visitors",
        "seeds": [71],
        "metrics": {name: estimate(0.9, better="higher", rows=1_000, visitors=500) for name in metrics},
        "tests": 6,
        "cells": [
            cell("label_right", "mobile", 0.7123, "worse"),
            cell("label_right", "desktop", 0.95, "better"),
            cell("abstained", "mobile", 0.89, "no difference shown"),
            cell("abstained", "desktop", 0.91, "no difference shown"),
        ],
        "too_few": [
            {"metric": m, "dimension": "device", "slice": "tablet", "rows": 9, "visitors": 4} for m in metrics
        ],
        "by_intent": [
            {"intent": "first_card", "labels": ["cards / lost"], "sessions": 90, "right": 0.75},
            {"intent": "lost_card", "labels": ["cards / lost"], "sessions": 80, "right": 0.85},
        ],
    }


AGAINST = {"bag": estimate(0.1, p_holm=0.01)}
FRESH = {"seeds": 3, "visitors": 3_500, "sessions": 6_000}


def every_step() -> dict[str, Json]:
    return {**simulated_steps(), **real_steps()}


def simulated_steps() -> dict[str, Json]:
    told = {
        "app_only": estimate(0.1),
        "embedding": estimate(0.2),
        "vs_app_only": estimate(0.5),
        "gap_closed": estimate(0.7),
    }
    metrics = ("log_loss", "macro_recall_at_1", "micro_f1")
    link = {"wrong_links": 0.03, "missing_links": 0.1, "coverage": 0.6, **tasks("embedding")}
    return {
        "main": main(),
        "student": student(),
        "signal": {"points": [{"signal_strength": s, **tasks("embedding")} for s in (0.5, 1.0, 2.0)]},
        "time": {
            "tiles": {"metrics": tasks("embedding")["tiles"]},
            "conversions": {"metrics": tasks("embedding")["conversions"]},
        },
        "links": {"rows": [link]},
        "transfer": {"rows": [transfer_row(told)]},
        "memberships": {
            **tasks("embedding", "memberships", "embedding_and_memberships"),
            "prototypes": 40,
            "gained": {
                metric: dict.fromkeys(("memberships", "embedding_and_memberships"), estimate(0.05))
                for metric in metrics
            },
        },
        "production": {
            **tasks("embedding_and_memberships", "bag_trees"),
            "above_trees": {
                metric: {"embedding_and_memberships": estimate(0.1, p_holm=0.01)} for metric in metrics
            },
        },
        "scaling": scaling(),
        "slices": slices(),
        "map": {"names": ["a", "b"], "points": [[0.0, 1.0, 0], [2.0, 3.0, 1]]},
        "costs": {
            "tokenizer_us": 10.0,
            "encoder_us": 100.0,
            "head_us": 5.0,
            "teacher": {
                "tokens_in": 1_000.0,
                "tokens_out": 200.0,
                "usd_per_thousand_sessions": 0.3,
                "seconds_per_request": 1.5,
                "assumed": {"usd_per_million_tokens": {"in": 0.15, "out": 0.6}},
            },
        },
        "attribution": {
            "rows": [
                {
                    "wrong_links": 0.03,
                    "lookback_days": 7.0,
                    **dict.fromkeys(("precision", "recall", "recall_without_login"), estimate(0.9)),
                    "sessions": {"link_right": 90, "link_wrong": 10, "login_wrong": 0},
                }
            ]
        },
        "history": history(),
        "baselines": {
            "micro_f1": contenders("ours", "bag"),
            "ours_versus": AGAINST,
            "costs": {"ours": {"cpu_seconds": 60.0, "learning_rate": 0.002}},
            **FRESH,
            "label_draws": 4,
        },
        "learning": {
            "points": [
                {"labels": labels, "micro_f1": contenders("ours", "bag"), "ours_versus": AGAINST}
                for labels in (250, 500)
            ],
            **FRESH,
            "label_draws": 8,
        },
        "ablations": {
            "rows": {
                "full": {metric: {"gap_closed": estimate(0.7)} for metric in metrics},
                "modality pages left out": {
                    metric: {"gap_closed": estimate(0.5), "than_full": estimate(-0.2, p_holm=0.01)}
                    for metric in metrics
                },
            },
            **FRESH,
            "epochs": 4,
        },
        "novelty": {
            "auroc": {"novelty": estimate(0.9), "distance": estimate(0.7), "doubt": estimate(0.8)},
            "auroc_not_chosen_on": dict.fromkeys(("novelty", "distance", "doubt"), estimate(0.85)),
            "by_intent": {"a": {"novelty": 0.9, "distance": 0.7, "doubt": 0.8, "sessions": 12, "fold": 0}},
        },
    }


def real_steps() -> dict[str, Json]:
    """Those on public clickstreams."""
    real = {"rows": {"train": 10, "test": 5}, "chosen_on_validation": "ours"}
    values = {"ours": estimate(0.85), "bag": estimate(0.8)}
    few = few_labels()
    return {
        "trivago": {**real, "mrr": values, "chosen_versus": {"bag": estimate(0.1, p=0.01)}},
        "shop1999": {**real, "auc": values, "ours_versus": {"bag": {"difference": 0.05, "p": 0.1}}},
        "eshop2008": {**real, "accuracy": values, "ours_versus": AGAINST},
        "real_choice": {"pisa_cc": few},
        "real_next_product": {
            "rows": {"test": 5},
            "seeds": 3,
            "mrr": {"transition table": estimate(0.2), "causal head": estimate(0.21)},
            "gain_over_table": {"causal head": estimate(0.01)},
        },
        "real_same_person": {
            "rows": {"people": 3, "sessions": 30, "pairs": 435},
            "seeds": 3,
            "auc": {"sites by hand": estimate(0.6), "mean of the tokens": estimate(0.62)},
            "gain_over_hand": {"mean of the tokens": estimate(0.02)},
        },
        "real_trivago": {
            "rows": {"test": 20, "with earlier sessions": 5},
            "seeds": 3,
            "shares": [0.0, 0.25, 0.0],
            **{
                part: {"mrr": {"trees": estimate(0.6)}, "gain": {"other over trees": estimate(0.01)}}
                for part in ("all", "with_earlier")
            },
        },
        **dict.fromkeys(("real_shop1999", "real_pisa_cc", "real_eshop2008", "real_eshop2008_fields"), few),
    }
