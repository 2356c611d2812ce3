"""The baselines by name, each with its share of the compute budget."""

from __future__ import annotations

from dataclasses import dataclass

from models.baselines import next_click, same_encoder, supervised
from models.baselines.interface import Baseline


@dataclass(frozen=True)
class Contender:
    embed: Baseline
    passes: float = 1.0
    """Epochs for one of the encoder's, so that both take about the same time."""
    tuned: bool = True
    """Whether a learning rate is chosen for it."""
    supervised: bool = False


OURS = "ours"
CONTENDERS = {
    OURS: Contender(same_encoder.ours, tuned=False),
    "gru4rec": Contender(next_click.gru4rec, passes=3.0),
    "sasrec": Contender(next_click.sasrec, passes=2.0),
    "bert4rec": Contender(same_encoder.bert4rec, passes=2.0),
    "coles": Contender(same_encoder.coles, passes=2.0),
    "trace": Contender(supervised.trace, passes=2.5),
    "bst": Contender(supervised.bst, supervised=True),
    "untrained": Contender(same_encoder.untrained, tuned=False),
}
