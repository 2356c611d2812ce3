"""What the steps of an evaluation share: its scale, its simulated worlds, what was trained on them.

Worlds are simulated anew when needed, for that takes less time than reading them would; what was trained is
kept in the ledger's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from models.evaluation import trained
from models.evaluation.features import Floats
from models.evaluation.ledger import Ledger
from models.evaluation.reader import Reader
from models.evaluation.trained import Parts
from models.evaluation.world import Bools, Cutter, World, simulated_world
from models.simulator import SimulatorConfig

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """How large an evaluation is; the defaults made the results that are committed."""

    visitors: int = 17_000
    """Simulated people per world; about three sessions each."""
    seeds: tuple[int, ...] = (11, 12, 13)
    """Of simulator and training, paired. None of them is that of the shipped bundle."""
    epochs: int = 8
    short_epochs: int = 4
    """Of ablations and whatever else is compared only within itself."""
    small_sessions: int = 15_000
    """For ablations and baselines the encoders learn from the training part of so many sessions."""
    reader_visitors: int = 6_000
    labelled: int = 10_000
    """Training sessions that a teacher labels for its student."""
    draws: int = 2_000

    def as_dict(self) -> Json:
        return {**asdict(self), "seeds": list(self.seeds)}


READER_SEED = 900
NO_KNOBS: Mapping[str, Any] = MappingProxyType({})


@dataclass
class Laboratory:
    ledger: Ledger
    cut: Cutter
    scale: Scale = field(default_factory=Scale)
    _worlds: dict[str, World] = field(default_factory=dict)
    _reader: Reader | None = None

    def world(self, seed: int, **knobs: float) -> World:
        """The last one is kept: steps that need the same world follow each other."""
        config = SimulatorConfig(seed=seed, visitors=self.scale.visitors, **knobs)  # type: ignore[arg-type]
        key = repr(config)
        if key not in self._worlds:
            self._worlds = {key: simulated_world(config, self.cut, self.ledger.cache)}
        return self._worlds[key]

    def simulator(self, seed: int, **knobs: float) -> SimulatorConfig:
        return SimulatorConfig(seed=seed, visitors=self.scale.visitors, **knobs)  # type: ignore[arg-type]

    def embedding(self, seed: int) -> Floats:
        """[S, D] of the world of this seed: pretrained on all its training visitors' sessions."""
        world = self.world
        return self.pretrained("embedding", seed, lambda: Parts.of(world(seed).sessions).train)

    def small_embedding(self, seed: int, overrides: Mapping[str, Any] = NO_KNOBS, **knobs: float) -> Floats:
        """[S, D]: pretrained on the training part of `small_sessions` sessions."""
        facts = {"small_sessions": self.scale.small_sessions}
        overrides = {"epochs": self.scale.short_epochs, **overrides}
        return self.pretrained("small", seed, lambda: self.small(seed, **knobs), overrides, facts, knobs)

    def pretrained(
        self,
        step: str,
        seed: int,
        learn_from: Callable[[], Bools],
        overrides: Mapping[str, Any] = NO_KNOBS,
        facts: Mapping[str, Any] = NO_KNOBS,
        knobs: Mapping[str, float] = NO_KNOBS,
    ) -> Floats:
        """[S, D]. `learn_from` gives [S]; `facts` say in the key which those are."""
        chosen = trained.train_config({"seed": seed, "epochs": self.scale.epochs, **overrides})
        config = {**self.of_seed(seed), **knobs, **facts, "encoder": trained.encoder_facts(chosen)}

        def compute() -> dict[str, Any]:
            sessions = self.world(seed, **knobs).sessions
            return {"embedding": trained.embeddings(sessions, learn_from(), chosen).astype(np.float32)}

        found: Floats = self.ledger.arrays(step, config, compute)["embedding"].astype(np.float64)
        return found

    def reading(self, seed: int) -> Floats:
        """[S, I]: what the best reader of sessions takes each session of this world for."""

        def compute() -> dict[str, Floats]:
            return {"chances": self.reader().read(self.world(seed).sessions)}

        config = {**self.of_seed(seed), "reader_visitors": self.scale.reader_visitors}
        found: Floats = self.ledger.arrays("reading", config, compute)["chances"]
        return found

    def reader(self) -> Reader:
        if self._reader is None:
            config = SimulatorConfig(seed=READER_SEED, visitors=self.scale.reader_visitors)
            self._reader = Reader.fit(simulated_world(config, self.cut, self.ledger.cache))
        return self._reader

    def of_seed(self, seed: int) -> Json:
        """What every step's config begins with."""
        return {"visitors": self.scale.visitors, "seed": seed}

    def of_features(self, seed: int) -> Json:
        """All that the features of the main table depend on."""
        encoder = trained.encoder_facts(trained.train_config({"seed": seed, "epochs": self.scale.epochs}))
        facts = {"labelled": self.scale.labelled, "reader_visitors": self.scale.reader_visitors}
        return {**self.of_seed(seed), **facts, "encoder": encoder}

    def small(self, seed: int, **knobs: float) -> Bools:
        """[S]: the training part of about `small_sessions` sessions, whole visitors."""
        world = self.world(seed, **knobs)
        share = min(1.0, self.scale.small_sessions / max(1, len(world.sessions)))
        visitors = sorted(set(world.table.visitor_ids))
        kept = set(np.random.default_rng(seed).permutation(visitors)[: round(share * len(visitors))].tolist())
        chosen = np.array([visitor in kept for visitor in world.table.visitor_ids])
        small: Bools = Parts.of(world.sessions).train & chosen
        return small
