"""What the steps of an evaluation share: scale, simulated data, and what was trained on it.

Data is simulated anew when needed, for that takes less time than reading it would; what was trained is
stored in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from streamer.models.arrays import Bool, Float64
from streamer.models.evaluation import training_runs
from streamer.models.evaluation.result_store import ResultStore
from streamer.models.evaluation.simulated_data import Cutter, SimulatedData, simulate_data
from streamer.models.evaluation.simulated_teacher import ReferenceClassifier
from streamer.models.evaluation.training_runs import SplitMasks
from streamer.models.simulator import SimulatorConfig
from streamer.models.training.config import for_simulated_bank

Json = dict[str, Any]

REFERENCE_SEED = 900
NO_SETTINGS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Scale:
    """How large an evaluation is; the defaults made the results that are committed."""

    visitors: int = 17_000
    """Simulated people per seed; about three sessions each."""
    seeds: tuple[int, ...] = (11, 12, 13)
    """Of simulator and training, paired. None of them is that of the shipped bundle."""
    epochs: int = 8
    short_epochs: int = 8
    """Of ablations and whatever else is compared only within itself."""
    small_sessions: int = 15_000
    """For ablations and baselines, encoders learn from the training part of this many sessions."""
    reader_visitors: int = 6_000
    labelled: int = 10_000
    """Training sessions that a teacher labels for its student."""
    draws: int = 2_000
    label_draws: int = 8
    """On public clickstreams."""
    pretraining_visitors: int = 32_000
    """The shipped bundle's; the scaling curve has parts of them."""
    real_epochs: int | None = None
    """There; None: what fits the size of each."""

    def as_dict(self) -> Json:
        return {**asdict(self), "seeds": list(self.seeds)}


@dataclass
class Experiment:
    store: ResultStore
    cut: Cutter
    scale: Scale = field(default_factory=Scale)
    _simulated: dict[str, SimulatedData] = field(default_factory=dict)
    _reference: ReferenceClassifier | None = None

    def data(self, seed: int, **settings: float) -> SimulatedData:
        """The last data set is cached: steps that need the same one follow each other."""
        config = SimulatorConfig(seed=seed, visitors=self.scale.visitors, **settings)  # type: ignore[arg-type]
        key = repr(config)
        if key not in self._simulated:
            self._simulated = {key: simulate_data(config, self.cut, self.store.cache)}
        return self._simulated[key]

    def simulator(self, seed: int, **settings: float) -> SimulatorConfig:
        return SimulatorConfig(seed=seed, visitors=self.scale.visitors, **settings)  # type: ignore[arg-type]

    def embedding(self, seed: int) -> Float64:
        """[S, D] of this seed's data: pretrained on the sessions of all its training visitors."""
        data = self.data
        return self.pretrained("embedding", seed, lambda: SplitMasks.of(data(seed).sessions).train)

    def small_embedding(
        self, seed: int, overrides: Mapping[str, Any] = NO_SETTINGS, **settings: float
    ) -> Float64:
        """[S, D]: pretrained on the training part of `small_sessions` sessions."""
        facts = {"small_sessions": self.scale.small_sessions}
        overrides = {"epochs": self.scale.short_epochs, **overrides}
        return self.pretrained(
            "small", seed, lambda: self.small(seed, **settings), overrides, facts, settings
        )

    def pretrained(
        self,
        step: str,
        seed: int,
        learn_from: Callable[[], Bool],
        overrides: Mapping[str, Any] = NO_SETTINGS,
        facts: Mapping[str, Any] = NO_SETTINGS,
        settings: Mapping[str, float] = NO_SETTINGS,
    ) -> Float64:
        """[S, D]. `learn_from` gives [S]; `facts` say in the key which those are."""
        chosen = for_simulated_bank(**{"seed": seed, "epochs": self.scale.epochs, **overrides})
        config = {**self.of_seed(seed), **settings, **facts, "encoder": training_runs.encoder_facts(chosen)}

        def compute() -> dict[str, Any]:
            sessions = self.data(seed, **settings).sessions
            return {"embedding": training_runs.embeddings(sessions, learn_from(), chosen).astype(np.float32)}

        found: Float64 = self.store.arrays(step, config, compute)["embedding"].astype(np.float64)
        return found

    def reference_probabilities(self, seed: int) -> Float64:
        """[S, I]: the reference classifier's probabilities for this seed's sessions."""

        def compute() -> dict[str, Float64]:
            return {"chances": self.reference_classifier().probabilities(self.data(seed).sessions)}

        config = {**self.of_seed(seed), "reader_visitors": self.scale.reader_visitors}
        found: Float64 = self.store.arrays("reading", config, compute)["chances"]
        return found

    def reference_classifier(self) -> ReferenceClassifier:
        if self._reference is None:
            config = SimulatorConfig(seed=REFERENCE_SEED, visitors=self.scale.reader_visitors)
            self._reference = ReferenceClassifier.fit(simulate_data(config, self.cut, self.store.cache))
        return self._reference

    def of_seed(self, seed: int) -> Json:
        """What every step's config begins with."""
        return {"visitors": self.scale.visitors, "seed": seed}

    def of_features(self, seed: int) -> Json:
        """All that the features of the main table depend on."""
        encoder = training_runs.encoder_facts(for_simulated_bank(seed=seed, epochs=self.scale.epochs))
        facts = {"labelled": self.scale.labelled, "reader_visitors": self.scale.reader_visitors}
        return {**self.of_seed(seed), **facts, "encoder": encoder}

    def small(self, seed: int, **settings: float) -> Bool:
        """[S]: the training part of about `small_sessions` sessions, whole visitors."""
        data = self.data(seed, **settings)
        share = min(1.0, self.scale.small_sessions / max(1, len(data.sessions)))
        visitors = sorted(set(data.table.visitor_ids))
        kept = set(np.random.default_rng(seed).permutation(visitors)[: round(share * len(visitors))].tolist())
        chosen = np.array([visitor in kept for visitor in data.table.visitor_ids])
        small: Bool = SplitMasks.of(data.sessions).train & chosen
        return small
