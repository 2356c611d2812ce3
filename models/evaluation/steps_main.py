"""The main table: embedding, labels and simple features beside the floor and the oracle, on paired seeds.

Also here: the curve over the teacher's accuracy, the student's calibration, abstention and confusion, and
the map of the embedding.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from streamer.models.arrays import Float64
from streamer.models.evaluation import training_runs
from streamer.models.evaluation.bootstrap import (
    Resampled,
    as_arrays,
    cluster_numbers,
    from_arrays,
    pooled,
    resample,
    versus,
)
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.features import Bag
from streamer.models.evaluation.metrics import Measured, abstention_curve, calibration_error, reliability
from streamer.models.evaluation.protocol import (
    ALL_LINEAR,
    ORACLE,
    ByMetric,
    Kinds,
    compared,
    measure_conversions,
    measure_tiles,
    resample_rows,
)
from streamer.models.evaluation.simulated_data import SimulatedData
from streamer.models.evaluation.simulated_teacher import TeacherLabels, teach
from streamer.models.evaluation.splits import split_by_visitor
from streamer.models.evaluation.training_runs import SplitMasks
from streamer.models.training.config import for_simulated_bank

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

TASKS = {"tiles": ("log_loss", "macro_recall_at_1"), "conversions": ("micro_f1",)}
"""With the metrics of each."""
TREES = "bag_trees"
POINTS = 1_500


def main_table(experiment: Experiment) -> Json:
    """Both tasks over all seeds, by visitors."""
    config = _config(experiment)

    def compute() -> Json:
        rng = np.random.default_rng(0)
        draws = [_draws_of(experiment, seed) for seed in experiment.scale.seeds]
        tiles = pooled([tiles for tiles, _ in draws], rng)
        conversions = pooled([conversions for _, conversions in draws], rng)
        return {
            "tiles": compared(tiles),
            "conversions": compared(conversions),
            "by_seed": {
                str(seed): {"tiles": compared(t), "conversions": compared(c)}
                for seed, (t, c) in zip(experiment.scale.seeds, draws, strict=True)
            },
            "embedding_versus": {
                "log_loss": versus(tiles, "log_loss", "embedding", BOTH_TASKS[1:]),
                "micro_f1": versus(conversions, "micro_f1", "embedding", [*BOTH_TASKS[1:], *_curve_names()]),
            },
            "teacher_curve": _teacher_curve(conversions),
        }

    return experiment.store.result("main", config, compute)


def student_table(experiment: Experiment) -> Json:
    """Calibration, abstention, confusion of the student on test visitors; the last two of the first seed."""
    config = _config(experiment)

    def compute() -> Json:
        rng = np.random.default_rng(0)
        errors: list[dict[str, Resampled]] = []
        shown: Json = {}
        for seed in experiment.scale.seeds:
            found = _Student.of(experiment, seed)
            errors.append(found.errors(rng, experiment.scale.draws))
            shown = shown or found.curves()
        ece = {name.split("/")[1]: each.estimate().as_dict() for name, each in pooled(errors, rng).items()}
        return {"ece": ece, **shown}

    return experiment.store.result(
        "student", {**config, "calibrated": "two temperatures, all answers"}, compute
    )


def _config(experiment: Experiment) -> Json:
    first = experiment.of_features(experiment.scale.seeds[0])
    return {
        **first,
        "seed": list(experiment.scale.seeds),
        "draws": experiment.scale.draws,
        "split": "visitors",
    }


def session_features(experiment: Experiment, seed: int) -> dict[str, Float64]:
    """[S, F] of every contender, by its name; cached."""
    stored = experiment.store.arrays(
        "features", experiment.of_features(seed), lambda: _label_features(experiment, seed)
    )
    features = {name: values.astype(np.float64) for name, values in stored.items()}
    features["embedding"] = experiment.embedding(seed)
    for name in ("teacher", "distilled_hard", "distilled_soft"):
        features[name] = features[f"{name}_{MIDDLE:.0%}"]
    for accuracy in ACCURACIES:
        both = side_by_side(features, "embedding", f"distilled_soft_{accuracy:.0%}")
        features[f"both_{accuracy:.0%}"] = both
    features["both"] = features[f"both_{MIDDLE:.0%}"]
    features["embedding_and_keyless"] = side_by_side(features, "embedding", "keyless")
    return features


def _label_features(experiment: Experiment, seed: int) -> dict[str, Any]:
    """[S, F] of teachers and their students, and of the bag, as float32."""
    data, embedding = experiment.data(seed), experiment.embedding(seed)
    masks, config = SplitMasks.of(data.sessions), for_simulated_bank(seed=seed)

    def student(labels: Float64) -> Float64:
        labelled = experiment.scale.labelled
        return training_runs.student(embedding, labels, masks, labelled, config, seed).probabilities

    found: dict[str, Float64] = {}
    for accuracy in ACCURACIES:
        labels = teach(experiment.reference_probabilities(seed), accuracy, np.random.default_rng(seed))
        hard = np.eye(labels.soft.shape[1])[labels.hard]
        found[f"teacher_{accuracy:.0%}"] = hard
        found[f"distilled_hard_{accuracy:.0%}"] = student(hard)
        found[f"distilled_soft_{accuracy:.0%}"] = student(labels.soft)
    found["keyless"] = student(training_runs.keyless_labels(embedding, data.sessions, masks, config))
    learnt = [s for s, chosen in zip(data.sessions, masks.train, strict=True) if chosen]
    found["bag"] = Bag.fit(learnt).encode(data.sessions)
    return {name: values.astype(np.float32) for name, values in found.items()}


def measure_tasks(
    data: SimulatedData,
    tiles: Mapping[str, Float64],
    conversions: Mapping[str, Float64],
    kinds: Kinds = ALL_LINEAR,
) -> tuple[ByMetric, ByMetric]:
    """Both tasks by visitors; the oracle is added to the contenders of each."""
    of_tiles = {name: [data.tile_features(name, values)] for name, values in tiles.items()}
    of_tiles[ORACLE] = [data.tile_features(ORACLE, data.oracle)]
    of_conversions = {name: [data.conversion_features(name, values)] for name, values in conversions.items()}
    of_conversions[ORACLE] = [data.conversion_features(ORACLE, data.oracle)]
    tile_split = split_by_visitor(data.tiles.decisions.visitor_ids)
    conversion_split = split_by_visitor(data.conversions.decisions.visitor_ids)
    return (
        measure_tiles(data.tiles, len(data.outcomes.tiles()), data.tile_floor, of_tiles, tile_split, kinds),
        measure_conversions(data.conversions, data.conversion_floor, of_conversions, conversion_split, kinds),
    )


def resample_tasks(
    data: SimulatedData, found: tuple[ByMetric, ByMetric], seed: int, draws: int
) -> tuple[dict[str, Resampled], dict[str, Resampled]]:
    rng = np.random.default_rng(seed)
    tiles, conversions = data.tiles.decisions, data.conversions.decisions
    return (
        resample_rows(found[0], tiles, split_by_visitor(tiles.visitor_ids), rng, draws),
        resample_rows(found[1], conversions, split_by_visitor(conversions.visitor_ids), rng, draws),
    )


def _draws_of(experiment: Experiment, seed: int) -> tuple[dict[str, Resampled], dict[str, Resampled]]:
    def compute() -> dict[str, Any]:
        data, features = experiment.data(seed), session_features(experiment, seed)
        for_tiles = {name: features[name] for name in BOTH_TASKS}
        for_conversions = {name: features[name] for name in (*BOTH_TASKS, *_curve_names())}
        found = measure_tasks(data, for_tiles, for_conversions)
        tiles, conversions = resample_tasks(data, found, seed, experiment.scale.draws)
        return {
            **{f"tiles/{name}": each for name, each in as_arrays(tiles).items()},
            **{f"conversions/{name}": each for name, each in as_arrays(conversions).items()},
        }

    stored = experiment.store.arrays(
        "tasks", {**experiment.of_features(seed), "draws": experiment.scale.draws}, compute
    )
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


def side_by_side(features: Mapping[str, Float64], *names: str) -> Float64:
    """[S, F] of all of them."""
    return np.concatenate([features[name] for name in names], axis=1)


class _Student:
    """The soft student on the test visitors of one seed, beside its teacher and the truth."""

    def __init__(
        self, data: SimulatedData, soft_student: Float64, hard_student: Float64, labels: TeacherLabels
    ) -> None:
        test = SplitMasks.of(data.sessions).test
        rows = np.arange(int(test.sum()))
        self.data = data
        self.claimed, self.best = soft_student[test].max(axis=1), soft_student[test].argmax(axis=1)
        self.answers = labels.soft[test][rows, self.best]
        """Share of the teacher's answers that agree with the student's best."""
        self.teacher = labels.hard[test]
        self.hard_claimed = hard_student[test].max(axis=1)
        self.hard_right = hard_student[test].argmax(axis=1) == self.teacher
        self.truth = data.intent[test]
        self.visitors = [v for v, chosen in zip(data.table.visitor_ids, test.tolist(), strict=True) if chosen]

    @classmethod
    def of(cls, experiment: Experiment, seed: int) -> _Student:
        data, embedding = experiment.data(seed), experiment.embedding(seed)
        labels = teach(experiment.reference_probabilities(seed), MIDDLE, np.random.default_rng(seed))
        parts, settings = SplitMasks.of(data.sessions), for_simulated_bank(seed=seed)
        soft, hard = (
            training_runs.student(
                embedding, given, parts, experiment.scale.labelled, settings, seed
            ).probabilities
            for given in (labels.soft, np.eye(labels.soft.shape[1])[labels.hard])
        )
        return cls(data, soft, hard, labels)

    def errors(self, rng: np.random.Generator, draws: int) -> dict[str, Resampled]:
        against: dict[str, Measured] = {
            "ece/teacher": calibration_error(self.claimed, self.answers),
            "ece/first_answer": calibration_error(self.claimed, self.best == self.teacher),
            "ece/hard_student": calibration_error(self.hard_claimed, self.hard_right),
            "ece/truth": calibration_error(self.claimed, self.best == self.truth),
        }
        return resample(against, cluster_numbers(self.visitors), rng, draws)

    def curves(self) -> Json:
        count = len(self.data.names)
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
            "confusion": {"names": list(self.data.names), "counts": confusion.tolist()},
        }


def embedding_map(experiment: Experiment) -> Json:
    """Coordinates and latent first intents of some test sessions of the first seed."""
    seed = experiment.scale.seeds[0]

    def compute() -> Json:
        data, embedding = experiment.data(seed), experiment.embedding(seed)
        long = np.array([session.event_count > 1 for session in data.sessions])
        rows = np.flatnonzero(SplitMasks.of(data.sessions).test & long)
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:POINTS])
        chosen = embedding[rows]
        scaled = (chosen - chosen.mean(axis=0)) / np.maximum(chosen.std(axis=0), 1e-9)
        perplexity = min(30.0, max(2.0, len(rows) / 4))
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flat = TSNE(2, perplexity=perplexity, random_state=0, init="pca").fit_transform(scaled)
        return {
            "names": list(data.names),
            "points": [
                [round(float(x), 2), round(float(y), 2), int(data.intent[row])]
                for (x, y), row in zip(flat, rows, strict=True)
            ],
        }

    return experiment.store.result("map", {**experiment.of_features(seed), "points": POINTS}, compute)
