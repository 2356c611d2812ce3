"""The main table: embedding, labels and simple features beside the floor and the oracle, on paired seeds.

Also from here: the curve over the teacher's accuracy, calibration, abstention and confusion of the student.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from models.evaluation import trained
from models.evaluation.bag import Bag
from models.evaluation.bootstrap import Resampled, cluster_numbers, resample
from models.evaluation.calibrated import abstention_curve, calibration_error, reliability
from models.evaluation.features import Floats
from models.evaluation.laboratory import Json, Laboratory
from models.evaluation.metrics import Measured
from models.evaluation.pooling import as_arrays, from_arrays, pooled, versus
from models.evaluation.protocol import (
    ORACLE,
    ByMetric,
    compared,
    measure_conversions,
    measure_tiles,
    resample_rows,
)
from models.evaluation.reader import TeacherLabels, teach
from models.evaluation.splits import split_by_visitor
from models.evaluation.trained import Parts
from models.evaluation.world import World

ACCURACIES = (0.70, 0.85, 0.95)
MIDDLE = 0.85
"""The teacher of the main table."""
BOTH_TASKS = (
    "embedding",
    "teacher",
    "distilled_hard",
    "distilled_soft",
    "both",
    "keyless",
    "embedding_and_keyless",
    "bag",
)


def main_table(lab: Laboratory) -> Json:
    """Both tasks over all seeds, by visitors."""
    config = _config(lab)

    def compute() -> Json:
        rng = np.random.default_rng(0)
        draws = [_draws_of(lab, seed) for seed in lab.scale.seeds]
        tiles = pooled([tiles for tiles, _ in draws], rng)
        conversions = pooled([conversions for _, conversions in draws], rng)
        return {
            "tiles": compared(tiles),
            "conversions": compared(conversions),
            "by_seed": {
                str(seed): {"tiles": compared(t), "conversions": compared(c)}
                for seed, (t, c) in zip(lab.scale.seeds, draws, strict=True)
            },
            "embedding_versus": {
                "log_loss": versus(tiles, "log_loss", "embedding", BOTH_TASKS[1:]),
                "micro_f1": versus(conversions, "micro_f1", "embedding", [*BOTH_TASKS[1:], *_curve_names()]),
            },
            "teacher_curve": _teacher_curve(conversions),
        }

    return lab.ledger.result("main", config, compute)


def student_table(lab: Laboratory) -> Json:
    """Calibration, abstention, confusion of the student on test visitors; the last two of the first seed."""
    config = _config(lab)

    def compute() -> Json:
        rng = np.random.default_rng(0)
        errors: list[dict[str, Resampled]] = []
        shown: Json = {}
        for seed in lab.scale.seeds:
            found = _Student.of(lab, seed)
            errors.append(found.errors(rng, lab.scale.draws))
            shown = shown or found.curves()
        ece = {name.split("/")[1]: each.estimate().as_dict() for name, each in pooled(errors, rng).items()}
        return {"ece": ece, **shown}

    return lab.ledger.result("student", {**config, "calibrated": "two temperatures, all answers"}, compute)


def _config(lab: Laboratory) -> Json:
    first = lab.of_features(lab.scale.seeds[0])
    return {**first, "seed": list(lab.scale.seeds), "draws": lab.scale.draws, "split": "visitors"}


def session_features(lab: Laboratory, seed: int) -> dict[str, Floats]:
    """[S, F] of every contender, by its name; kept in the cache."""
    config = lab.of_features(seed)

    def compute() -> dict[str, Floats]:
        world, embedding = lab.world(seed), lab.embedding(seed)
        parts, settings = Parts.of(world.sessions), trained.train_config({"seed": seed})
        found: dict[str, Floats] = {}
        for accuracy in ACCURACIES:
            labels = teach(lab.reading(seed), accuracy, np.random.default_rng(seed))
            hard = np.eye(labels.soft.shape[1])[labels.hard]
            found[f"teacher_{accuracy:.0%}"] = hard
            for kind, given in (("hard", hard), ("soft", labels.soft)):
                asked = trained.student(embedding, given, parts, lab.scale.labelled, settings, seed)
                found[f"distilled_{kind}_{accuracy:.0%}"] = asked.probabilities
        keyless = trained.keyless_labels(embedding, world.sessions, parts, settings)
        found["keyless"] = trained.student(
            embedding, keyless, parts, lab.scale.labelled, settings, seed
        ).probabilities
        learnt = [s for s, chosen in zip(world.sessions, parts.train, strict=True) if chosen]
        found["bag"] = Bag.fit(learnt).encode(world.sessions)
        return {name: values.astype(np.float32) for name, values in found.items()}

    stored = lab.ledger.arrays("features", config, compute)
    features = {name: values.astype(np.float64) for name, values in stored.items()}
    features["embedding"] = lab.embedding(seed)
    for name, of in (
        ("teacher", "teacher"),
        ("distilled_hard", "distilled_hard"),
        ("distilled_soft", "distilled_soft"),
    ):
        features[name] = features[f"{of}_{MIDDLE:.0%}"]
    for accuracy in ACCURACIES:
        features[f"both_{accuracy:.0%}"] = _side_by_side(
            features, "embedding", f"distilled_soft_{accuracy:.0%}"
        )
    features["both"] = features[f"both_{MIDDLE:.0%}"]
    features["embedding_and_keyless"] = _side_by_side(features, "embedding", "keyless")
    return features


def measure_tasks(
    world: World, tiles: Mapping[str, Floats], conversions: Mapping[str, Floats]
) -> tuple[ByMetric, ByMetric]:
    """Both tasks by visitors; the oracle is added to the contenders of each."""
    of_tiles = {name: [world.tile_features(name, values)] for name, values in tiles.items()}
    of_tiles[ORACLE] = [world.tile_features(ORACLE, world.oracle)]
    of_conversions = {name: [world.conversion_features(name, values)] for name, values in conversions.items()}
    of_conversions[ORACLE] = [world.conversion_features(ORACLE, world.oracle)]
    tile_split = split_by_visitor(world.tiles.decisions.visitor_ids)
    conversion_split = split_by_visitor(world.conversions.decisions.visitor_ids)
    return (
        measure_tiles(world.tiles, len(world.outcomes.tiles()), world.tile_floor, of_tiles, tile_split),
        measure_conversions(world.conversions, world.conversion_floor, of_conversions, conversion_split),
    )


def resample_tasks(
    world: World, found: tuple[ByMetric, ByMetric], seed: int, draws: int
) -> tuple[dict[str, Resampled], dict[str, Resampled]]:
    rng = np.random.default_rng(seed)
    tiles, conversions = world.tiles.decisions, world.conversions.decisions
    return (
        resample_rows(found[0], tiles, split_by_visitor(tiles.visitor_ids), rng, draws),
        resample_rows(found[1], conversions, split_by_visitor(conversions.visitor_ids), rng, draws),
    )


def _draws_of(lab: Laboratory, seed: int) -> tuple[dict[str, Resampled], dict[str, Resampled]]:
    def compute() -> dict[str, Any]:
        world, features = lab.world(seed), session_features(lab, seed)
        for_tiles = {name: features[name] for name in BOTH_TASKS}
        for_conversions = {name: features[name] for name in (*BOTH_TASKS, *_curve_names())}
        found = measure_tasks(world, for_tiles, for_conversions)
        tiles, conversions = resample_tasks(world, found, seed, lab.scale.draws)
        return {
            **{f"tiles/{name}": each for name, each in as_arrays(tiles).items()},
            **{f"conversions/{name}": each for name, each in as_arrays(conversions).items()},
        }

    stored = lab.ledger.arrays("tasks", {**lab.of_features(seed), "draws": lab.scale.draws}, compute)
    tasks: dict[str, dict[str, Any]] = {"tiles": {}, "conversions": {}}
    for name, array in stored.items():
        task, _, key = name.partition("/")
        tasks[task][key] = array
    return from_arrays(tasks["tiles"]), from_arrays(tasks["conversions"])


def _curve_names() -> list[str]:
    kinds = ("teacher", "distilled_hard", "distilled_soft", "both")
    return [f"{kind}_{accuracy:.0%}" for accuracy in ACCURACIES if accuracy != MIDDLE for kind in kinds]


def _teacher_curve(conversions: Mapping[str, Resampled]) -> list[Json]:
    """Per accuracy: micro F1 of the labels and their students, and how far the embedding is above them."""
    points = []
    for accuracy in ACCURACIES:
        tail = "" if accuracy == MIDDLE else f"_{accuracy:.0%}"
        names = {kind: f"{kind}{tail}" for kind in ("teacher", "distilled_hard", "distilled_soft", "both")}
        above = versus(conversions, "micro_f1", "embedding", names.values())
        points.append(
            {
                "accuracy": accuracy,
                "embedding": conversions["micro_f1/embedding"].estimate().as_dict(),
                **{
                    kind: conversions[f"micro_f1/{name}"].estimate().as_dict() for kind, name in names.items()
                },
                "embedding_above": {kind: above[name] for kind, name in names.items()},
            }
        )
    return points


def _side_by_side(features: Mapping[str, Floats], *names: str) -> Floats:
    return np.concatenate([features[name] for name in names], axis=1)


class _Student:
    """The soft student of one world's test visitors, beside its teacher and the truth."""

    def __init__(
        self, world: World, soft_student: Floats, hard_student: Floats, labels: TeacherLabels
    ) -> None:
        test = Parts.of(world.sessions).test
        rows = np.arange(int(test.sum()))
        self.world = world
        self.claimed, self.best = soft_student[test].max(axis=1), soft_student[test].argmax(axis=1)
        self.answers = labels.soft[test][rows, self.best]
        """Share of the teacher's answers that say the student's best."""
        self.teacher = labels.hard[test]
        self.hard_claimed = hard_student[test].max(axis=1)
        self.hard_right = hard_student[test].argmax(axis=1) == self.teacher
        self.truth = world.intent[test]
        self.visitors = [
            v for v, chosen in zip(world.table.visitor_ids, test.tolist(), strict=True) if chosen
        ]

    @classmethod
    def of(cls, lab: Laboratory, seed: int) -> _Student:
        world, embedding = lab.world(seed), lab.embedding(seed)
        labels = teach(lab.reading(seed), MIDDLE, np.random.default_rng(seed))
        parts, settings = Parts.of(world.sessions), trained.train_config({"seed": seed})
        soft, hard = (
            trained.student(embedding, given, parts, lab.scale.labelled, settings, seed).probabilities
            for given in (labels.soft, np.eye(labels.soft.shape[1])[labels.hard])
        )
        return cls(world, soft, hard, labels)

    def errors(self, rng: np.random.Generator, draws: int) -> dict[str, Resampled]:
        against: dict[str, Measured] = {
            "ece/teacher": calibration_error(self.claimed, self.answers),
            "ece/first_answer": calibration_error(self.claimed, self.best == self.teacher),
            "ece/hard_student": calibration_error(self.hard_claimed, self.hard_right),
            "ece/truth": calibration_error(self.claimed, self.best == self.truth),
        }
        return resample(against, cluster_numbers(self.visitors), rng, draws)

    def curves(self) -> Json:
        count = len(self.world.names)
        confusion = np.zeros((count, count), dtype=np.int64)
        np.add.at(confusion, (self.truth, self.best), 1)
        return {
            "accuracy_against_teacher": float((self.best == self.teacher).mean()),
            "accuracy_against_truth": float((self.best == self.truth).mean()),
            "teacher_against_truth": float((self.teacher == self.truth).mean()),
            "reliability": reliability(self.claimed, self.answers),
            "abstention": {
                "against_teacher": abstention_curve(self.claimed, self.best == self.teacher),
                "against_truth": abstention_curve(self.claimed, self.best == self.truth),
            },
            "confusion": {"names": list(self.world.names), "counts": confusion.tolist()},
        }
