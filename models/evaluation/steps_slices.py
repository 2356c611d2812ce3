"""For whom is a bundle worse? Its labels and its use to the app by slice, on visitors that chose nothing.

A bundle's labels have names of their own, and may be finer or coarser than the latent intents. So among
sessions of training visitors, a label belongs to the intent that most of its sessions have, and to every
intent most of whose sessions have it. It is right if it belongs to one of the session's intents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from streamer.models.arrays import Bool, Int64
from streamer.models.bundle import Bundle
from streamer.models.evaluation.bootstrap import DRAWS
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.protocol import SplitError
from streamer.models.evaluation.simulated_data import SimulatedData
from streamer.models.evaluation.slice_metrics import Verdicts, abstentions, label_metrics, outcome_metrics
from streamer.models.evaluation.slices import (
    SliceDraws,
    dimensions_of,
    measure_slices,
    scoring_files,
    slice_table,
)
from streamer.models.evaluation.task_rows import ClosedSessions, Outcomes
from streamer.models.evaluation.training_runs import SplitMasks
from streamer.schemas.click import Session

SEEDS = (71, 72, 73)
"""Nothing was chosen on them."""
_AGES = ((29, "under 30"), (59, "30 to 59"))
_OLDEST, _UNKNOWN_AGE = "60 or older", "unknown"


def slices(experiment: Experiment, bundle: Bundle) -> Json:
    """Over all seeds, by visitors."""
    visitors, draws = experiment.scale.visitors, experiment.scale.draws
    about = scoring_files(bundle)
    config = {"visitors": visitors, "seeds": list(SEEDS), "draws": draws, "bundle": about}

    def compute() -> Json:
        rng = np.random.default_rng(0)
        by_seed, right, of_intent, labels = [], Counter[str](), Counter[str](), []
        for seed in SEEDS:
            found = _OfSeed(experiment.data(seed), bundle)
            by_seed.append(found.draws(rng, draws))
            right += found.counts(found.right)
            of_intent += found.counts(np.ones_like(found.right))
            labels.append(found.label_of_intent())
        return {
            "bundle": about,
            "data": "simulated visitors",
            "seeds": list(SEEDS),
            **slice_table(by_seed, rng),
            "by_intent": [
                {
                    "intent": name,
                    "labels": sorted({each[name] for each in labels}),
                    "sessions": count,
                    "right": right[name] / count,
                }
                for name, count in sorted(of_intent.items())
            ],
        }

    return experiment.store.result("slices", config, compute)


def own_slices(
    bundle: Bundle, sessions: Sequence[Session], outcomes: Outcomes | None, rng: np.random.Generator
) -> Json:
    """Of people's sessions that somebody has, where no truth is known: those of test visitors, by whom no
    bundle trained on them was made. Raises SplitError if there are none."""
    test = SplitMasks.of(sessions).test
    if not test.any():
        raise SplitError(f"none of {len(sessions)} sessions is of a test visitor: expected more visitors")
    verdicts = Verdicts(bundle, sessions)
    metrics = abstentions(verdicts, sessions, test)
    if outcomes is not None:
        metrics |= outcome_metrics(verdicts, outcomes, ClosedSessions.of(sessions))
    found = measure_slices(metrics, dimensions_of(sessions), rng, DRAWS)
    return {"bundle": scoring_files(bundle), "data": "own sessions", "seeds": [], **slice_table([found], rng)}


class _OfSeed:
    """The simulated visitors of one seed, as the bundle sees them."""

    def __init__(self, data: SimulatedData, bundle: Bundle) -> None:
        self._data, self._taxonomy = data, bundle.taxonomy
        self._masks = SplitMasks.of(data.sessions)
        self._verdicts = Verdicts(bundle, data.sessions)
        found = self._learnt()
        self._labels: Int64 = found.argmax(axis=1)
        """[I]: the label of each latent intent."""
        allowed: Bool = data.intents.astype(np.int64) @ belonging(found) > 0
        self.right: Bool = allowed[np.arange(len(allowed)), self._verdicts.best]
        """[S]"""

    def draws(self, rng: np.random.Generator, draws: int) -> SliceDraws:
        data, verdicts, test = self._data, self._verdicts, self._masks.test
        metrics = {
            **label_metrics(verdicts, self.right, data.sessions, test),
            **abstentions(verdicts, data.sessions, test),
            **outcome_metrics(verdicts, data.outcomes, data.table),
        }
        dimensions = {**dimensions_of(data.sessions), "age (not read by the model)": _ages(data)}
        return measure_slices(metrics, dimensions, rng, draws)

    def counts(self, which: Bool) -> Counter[str]:
        """Of labelled test sessions, those of each first latent intent."""
        chosen = self._masks.test & ~self._verdicts.abstained & which
        return Counter(self._data.names[intent] for intent in self._data.intent[chosen].tolist())

    def label_of_intent(self) -> dict[str, str]:
        return {
            name: self._taxonomy.intents[label].label
            for name, label in zip(self._data.names, self._labels.tolist(), strict=True)
        }

    def _learnt(self) -> Int64:
        """[I, K]: how many of the training visitors' sessions with an intent have a label."""
        learnt = self._masks.train & ~self._verdicts.abstained
        counts = np.zeros((len(self._data.names), len(self._taxonomy.intents)), dtype=np.int64)
        np.add.at(counts, (self._data.intent[learnt], self._verdicts.best[learnt]), 1)
        return counts


def belonging(sessions: Int64) -> Bool:
    """[I, K] of the number of sessions with each intent and label: which labels belong to which intents."""
    of_intent = sessions == sessions.max(axis=1, keepdims=True)
    of_label = sessions == sessions.max(axis=0, keepdims=True)
    found: Bool = (of_intent | of_label) & (sessions > 0)
    return found


def _ages(data: SimulatedData) -> Sequence[str]:
    """[S]: that of the customer whom the visitor is linked to, as the app knows it."""
    known: dict[str, str] = {}
    for user in data.outcomes.users:
        if user["linked_visitor_id"]:
            group = next((name for most, name in _AGES if user["age"] <= most), _OLDEST)
            known[user["linked_visitor_id"]] = group
    return [known.get(session.visitor_id, _UNKNOWN_AGE) for session in data.sessions]
