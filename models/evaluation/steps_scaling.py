"""The scaling curve: the recipe pretrained on fewer people, or in fewer passes; tasks are of others.

Encoders and prototypes learn from simulated people of one seed, of whom there are more and more; heads are
fitted and tested on visitors of other seeds, as for the bundle. Where passes over the sessions differ too,
data and time can be told apart: few sessions seen often, many sessions seen rarely.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from streamer.models import prototypes as prototype_files
from streamer.models.arrays import Float32, Float64
from streamer.models.bundle import Bundle
from streamer.models.evaluation import training_runs
from streamer.models.evaluation.bootstrap import Resampled, more_of_gap, pooled
from streamer.models.evaluation.experiment import Experiment, Json
from streamer.models.evaluation.protocol import FLOOR, ORACLE, compared
from streamer.models.evaluation.result_store import Arrays
from streamer.models.evaluation.simulated_data import SimulatedData
from streamer.models.evaluation.steps_main import TASKS
from streamer.models.evaluation.steps_memberships import (
    BOTH,
    EMBEDDING,
    MEMBERSHIPS,
    about,
    draws_of_bundle,
    task_draws,
)
from streamer.models.evaluation.training_runs import SplitMasks
from streamer.models.prototypes import Prototypes
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig, for_simulated_bank
from streamer.models.training.corpus import Corpus, embed
from streamer.models.training.encoder import Encoder
from streamer.models.training.pretrain import deterministic, shape_of
from streamer.models.training.prototypes import MOST, learn_prototypes

LEARNT_FROM = 81
"""The seed of the people whom encoders learn from, and of training; nothing else has it."""
SEEDS = (61, 62, 63, 64)
"""Of the people whose tasks are measured; nothing was chosen on them."""
_WEIGHT = "weight/"

_Draws = dict[str, dict[str, Resampled]]
"""By task and "metric/contender"."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much a pretraining has."""

    visitors: float
    """In multiples of what the shipped bundle had."""
    epochs: float = 1.0
    """In multiples of the evaluation's."""


AMOUNTS = (
    Amount(1 / 16),
    Amount(1 / 4),
    Amount(1),
    # As many updates as the first has.
    Amount(1 / 4, 1 / 4),
)


def scaling(experiment: Experiment, bundle: Bundle) -> Json:
    """Both tasks over all seeds, by visitors, for the bundle and each amount; how much more of the gap each
    amount closes than the bundle. Raises MissingResultError if the bundle has no prototypes."""

    def compute() -> Json:
        learnt = [_Learnt.of(experiment, amount) for amount in AMOUNTS]
        reference: list[_Draws] = []
        by_seed: list[list[_Draws]] = []
        for seed in SEEDS:
            reference.append(draws_of_bundle(experiment, bundle, seed))
            by_seed.append([each.draws(experiment, seed) for each in learnt])
        of_bundle = _pooled(reference)
        points = []
        for each, draws in zip(learnt, zip(*by_seed, strict=True), strict=True):
            of_amount = _pooled(draws)
            points.append({**each.facts, **_measured(of_amount), "gained": _gained(of_amount, of_bundle)})
        return {
            "bundle": {**_facts_of(bundle), **_measured(of_bundle)},
            "points": points,
            "seeds": len(SEEDS),
            "visitors": experiment.scale.visitors,
        }

    config = {
        "visitors": experiment.scale.visitors,
        "seeds": list(SEEDS),
        "draws": experiment.scale.draws,
        "bundle": about(bundle),
        "learnt": [_key(experiment, amount) for amount in AMOUNTS],
    }
    return experiment.store.result("scaling", config, compute)


@dataclass(frozen=True)
class _Learnt:
    """An encoder with its prototypes."""

    tokenizer: Tokenizer
    encoder: Encoder
    prototypes: Prototypes | None
    """None: too few sessions for any."""
    facts: Json
    key: Json
    """All that both depend on."""

    @classmethod
    def of(cls, experiment: Experiment, amount: Amount) -> _Learnt:
        key = _key(experiment, amount)
        stored = experiment.store.arrays("pretrained", key, lambda: _pretrain(experiment, amount))
        tokenizer, config = Tokenizer.from_json(_text(stored["tokenizer"])), _recipe(experiment, amount)
        encoder = Encoder(shape_of(tokenizer, config))
        weights = {name: each for name, each in stored.items() if name.startswith(_WEIGHT)}
        encoder.load_state_dict(
            {name.removeprefix(_WEIGHT): torch.from_numpy(each) for name, each in weights.items()}
        )
        prototypes = stored["prototypes"].tobytes()
        return cls(
            tokenizer,
            encoder.eval(),
            prototype_files.from_json(prototypes) if prototypes else None,
            {
                "visitors": _visitors(experiment, amount),
                "sessions": int(stored["sessions"]),
                "epochs": config.epochs,
                "cpu_seconds": float(stored["cpu_seconds"]),
            },
            key,
        )

    def draws(self, experiment: Experiment, seed: int) -> _Draws:
        config = {"draws": experiment.scale.draws, **self.key}
        return task_draws(experiment, seed, "scaling_tasks", config, self.features)

    def features(self, data: SimulatedData) -> dict[str, Float64]:
        """[S, F] of each."""
        vectors = _embedded(self.tokenizer, self.encoder, data)
        found = {EMBEDDING: vectors.astype(np.float64)}
        if self.prototypes is not None:
            memberships = self.prototypes.memberships(vectors).astype(np.float64)
            found[BOTH] = np.concatenate([found[EMBEDDING], memberships], axis=1)
        return found


def _pretrain(experiment: Experiment, amount: Amount) -> Arrays:
    chosen = _recipe(experiment, amount)
    people = replace(experiment.scale, visitors=_visitors(experiment, amount))
    data = replace(experiment, scale=people).data(LEARNT_FROM)
    masks = SplitMasks.of(data.sessions)
    begun = time.process_time()
    tokenizer, encoder = training_runs.trained(data.sessions, masks.train, chosen)
    spent = time.process_time() - begun
    vectors = _embedded(tokenizer, encoder, data)
    prototypes = learn_prototypes("", vectors[masks.train], vectors[masks.validation], chosen.seed)
    return {
        **{f"{_WEIGHT}{name}": each.numpy() for name, each in encoder.state_dict().items()},
        "tokenizer": _bytes(tokenizer.to_json().encode()),
        "prototypes": _bytes(prototypes.content if prototypes else b""),
        "sessions": np.array(masks.train.sum()),
        "cpu_seconds": np.array(spent),
    }


def _pooled(by_seed: Sequence[_Draws]) -> _Draws:
    """Of the contenders that are compared here."""
    rng = np.random.default_rng(0)
    return {
        task: {
            name: each
            for name, each in pooled([of_seed[task] for of_seed in by_seed], rng).items()
            if name.rpartition("/")[2] != MEMBERSHIPS
        }
        for task in TASKS
    }


def _measured(draws: _Draws) -> Json:
    return {task: compared(of_task) for task, of_task in draws.items()}


def _facts_of(bundle: Bundle) -> Json:
    data, config = bundle.manifest.data, bundle.manifest.config
    sessions = data.get("pretrained_on", data.get("sessions", {}).get("train"))
    return {"sessions": sessions, "epochs": config.get("epochs")}


def _gained(draws: _Draws, of_bundle: _Draws) -> Json:
    """By metric and contender."""
    return {
        metric: {
            name: more_of_gap(
                *(of_task[f"{metric}/{name}"], of_bundle[task][f"{metric}/{name}"]),
                *(of_task[f"{metric}/{each}"] for each in (FLOOR, ORACLE)),
            ).as_dict()
            for name in (EMBEDDING, BOTH)
            if f"{metric}/{name}" in of_task
        }
        for task, of_task in draws.items()
        for metric in TASKS[task]
    }


def _key(experiment: Experiment, amount: Amount) -> Json:
    """All that an encoder and its prototypes depend on."""
    return {
        "pretraining_visitors": _visitors(experiment, amount),
        "learnt_from": LEARNT_FROM,
        "encoder": training_runs.encoder_facts(_recipe(experiment, amount)),
        "prototypes": MOST,
    }


def _visitors(experiment: Experiment, amount: Amount) -> int:
    return round(experiment.scale.pretraining_visitors * amount.visitors)


def _recipe(experiment: Experiment, amount: Amount) -> TrainConfig:
    return for_simulated_bank(seed=LEARNT_FROM, epochs=max(1, round(experiment.scale.epochs * amount.epochs)))


def _embedded(tokenizer: Tokenizer, encoder: Encoder, data: SimulatedData) -> Float32:
    """[S, D]"""
    with deterministic(TrainConfig().threads):
        return embed(encoder, Corpus.of(data.sessions, tokenizer))


def _bytes(content: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(content, np.uint8)


def _text(stored: np.ndarray[Any, Any]) -> str:
    return stored.tobytes().decode()
