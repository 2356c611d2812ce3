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

OURS, CONTRAST = "ours", "coles"


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
    "gru4rec": Contender(next_click.gru4rec, passes=1.5),
    "sasrec": Contender(next_click.sasrec, passes=1.375),
    "bert4rec": Contender(self_supervised.bert4rec, passes=1.25),
    CONTRAST: Contender(self_supervised.coles, passes=1.125),
    "coles_visitor": Contender(self_supervised.coles_visitor, passes=0.875),
    "icl": Contender(latent_intents.icl, passes=0.625),
    "mind": Contender(latent_intents.mind, passes=2.5),
    "step": Contender(flattened.step, passes=0.375),
    "timesync": Contender(time_synchronized.timesync, passes=0.75),
    "trace": Contender(supervised.trace, passes=1.625),
    "bst": Contender(supervised.bst, passes=0.5, supervised=True),
    "untrained": Contender(self_supervised.untrained, tuned=False),
}
