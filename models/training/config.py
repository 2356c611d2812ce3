"""Everything that a training run depends on besides its sessions: one flat, frozen record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamer.models.extra_fields import FieldSpec

UNNAMED = "unnamed"
OBJECTIVES = ("masked", "rest", "contrast")
"""Those whose weights a recipe file may give; a recipe may have `causal` and `visitor` besides."""


@dataclass(frozen=True)
class TrainConfig:
    """The defaults are for real clicks; `for_simulated_bank` made the shipped bundle, in 12 epochs."""

    name: str = UNNAMED
    seed: int = 7
    threads: int = 1
    """Torch threads. Another number sums in another order and gives other bytes."""

    # tokenizer
    min_count: int = 10
    max_vocabulary: int = 5000
    fields: tuple[FieldSpec, ...] = ()
    """Of a click, besides those that every tokenizer has."""
    hashed: Mapping[str, int] = field(default_factory=dict)
    """Sizes of hashed tails that aren't the usual, by field."""

    # encoder
    dim: int = 64
    layers: int = 2
    heads: int = 4
    hidden: int = 128
    readout: str = "mean"
    """What an embedding consists of, one of `encoder.READOUTS`; pretraining doesn't depend on it."""

    # pretraining
    epochs: int = 8
    batch: int = 64
    """Small: four times the steps of 256 are worth more than their time (share of the gap closed, tile log
    loss: 71 % with 256, 72 % with 128, 75 % with 64; conversions: 80, 81, 83 %)."""
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    mask_events: float = 0.25
    """Masking rate: probability that a click is hidden with all its fields."""
    mask_fields: float = 0.10
    """Probability that a single field of a click is hidden."""
    mask_session: float = 0.5
    """Probability that a session's device, referrer or hour is hidden, each independently."""
    weight_masked: float = 1.0
    weight_rest: float = 1.0
    weight_contrast: float = 0.2
    rest_every: int = 1
    """The rest of the session is predicted in one of so many batches, unless nothing else has a weight."""
    events_of_pages: bool = True
    """Whether slices show, and objectives predict, event type and element of clicks that have a page. These
    tell how somebody clicks rather than what for."""
    weight_causal: float = 0.0
    """Of the next click, all later ones and the end, predicted from every beginning of a session."""
    weight_visitor: float = 0.0
    """Of contrast between two sessions of a visitor and sessions of others."""
    contrast_temperature: float = 0.1

    # keyless taxonomy
    max_intents: int = 32
    taxonomy_sample: int = 10_000
    clear_clicks: int = 3
    """Clusters are found on sessions with at least this many clicks; shorter ones blur them."""
    recurring_share: float = 0.75
    """Share of the clusters that must be found again in random halves of the sessions."""
    halves: int = 4
    near_duplicate: float = 0.9
    """Clusters whose centres have a higher cosine are merged."""
    min_share: float = 0.01
    """Clusters with a smaller share of the sessions are dropped."""
    min_term_visitors: int = 10
    """A word may name an intent only if sessions of this many visitors have it."""

    # distillation
    head_hidden: int = 128
    head_epochs: int = 20
    head_batch: int = 512
    head_learning_rate: float = 3e-3
    min_clicks: int = 2
    """Sessions with fewer clicks and no query are too short to label."""
    min_probability: float = 0.5
    """Below this the best intent is likelier wrong than right: ambiguous."""
    novelty_quantile: float = 0.99
    """Share of validation sessions that aren't novel."""


SIMULATED_BANK: Mapping[str, Any] = {
    "weight_masked": 0.0,
    "weight_contrast": 1.0,
    "rest_every": 2,
    "events_of_pages": False,
}
"""What was best on the simulated bank, at equal CPU time, and is worse on public clickstreams."""


def for_simulated_bank(**settings: Any) -> TrainConfig:
    return TrainConfig(**{**SIMULATED_BANK, **settings})
