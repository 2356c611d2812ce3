"""The baselines by name, each with its share of the compute budget."""

from __future__ import annotations

from dataclasses import dataclass

from streamer.models.baselines import (
    flattened,
    latent_intents,
    next_click,
    self_supervised,
    supervised,
    time_synchronized,
)
from streamer.models.baselines.interface import Baseline

OURS, UNMASKED, CONTRAST = "ours", "unmasked", "coles"


@dataclass(frozen=True)
class Contender:
    embed: Baseline
    passes: float = 1.0
    """Epochs for one of the encoder's, so that both take about the same time."""
    tuned: bool = True
    """Whether a learning rate is chosen for it."""
    supervised: bool = False


CONTENDERS = {
    OURS: Contender(self_supervised.ours, tuned=False),
    UNMASKED: Contender(self_supervised.unmasked, passes=1.5),
    "gru4rec": Contender(next_click.gru4rec, passes=3.0),
    "sasrec": Contender(next_click.sasrec, passes=2.75),
    "bert4rec": Contender(self_supervised.bert4rec, passes=2.5),
    CONTRAST: Contender(self_supervised.coles, passes=2.25),
    "coles_visitor": Contender(self_supervised.coles_visitor, passes=1.75),
    "icl": Contender(latent_intents.icl, passes=1.25),
    "mind": Contender(latent_intents.mind, passes=5.0),
    "step": Contender(flattened.step, passes=0.75),
    "timesync": Contender(time_synchronized.timesync, passes=1.5),
    "trace": Contender(supervised.trace, passes=3.25),
    "bst": Contender(supervised.bst, supervised=True),
    "untrained": Contender(self_supervised.untrained, tuned=False),
}
