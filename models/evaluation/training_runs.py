"""Training for the evaluation: embeddings of sessions, and students distilled from a teacher's labels.

Tokenizer, encoder and heads learn from training visitors, temperatures from validation visitors; test
visitors are only embedded. S sessions, D dimensions, I intents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from streamer.models.arrays import Bool, Float32, Float64, Int64
from streamer.models.fields import EVENT_FIELDS, SESSION_FIELDS
from streamer.models.labelling.teacher import SoftLabels, TeacherInput
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.cluster_teacher import ClusterTeacher
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus, LengthBucket, embed
from streamer.models.training.distill import LabelledEmbeddings, distill, outputs
from streamer.models.training.encoder import MEAN, Encoder, Tokens
from streamer.models.training.novelty import Embed, Surprising
from streamer.models.training.pretrain import deterministic, new_tokenizer, pretrain
from streamer.models.visitor_splits import TRAIN_BELOW, VALIDATION_BELOW, percent_of
from streamer.schemas.click import Session

_NOT_OF_THE_ENCODER = {"name", "seed", "threads"}
_ADDED = {
    "fields": (),
    "hashed": {},
    "readout": MEAN,
    "rest_every": 1,
    "events_of_pages": True,
    "weight_causal": 0.0,
    "weight_visitor": 0.0,
}
"""Settings that came later; results made before keep their keys, for they had these values."""
_AFTER_THE_ENCODER = "max_intents"
"""The first field of what comes after pretraining."""


@dataclass(frozen=True)
class SplitMasks:
    """[S] each: whose visitors train, validate and test, by the same hash as everywhere."""

    train: Bool
    validation: Bool
    test: Bool

    @classmethod
    def of(cls, sessions: Sequence[Session]) -> SplitMasks:
        percents = np.array([percent_of(session.visitor_id) for session in sessions])
        validation = (percents >= TRAIN_BELOW) & (percents < VALIDATION_BELOW)
        return cls(percents < TRAIN_BELOW, validation, percents >= VALIDATION_BELOW)


def encoder_facts(config: TrainConfig) -> dict[str, Any]:
    """All that an encoder depends on besides its sessions and seed."""
    names = [field.name for field in fields(config)]
    of_encoder = names[: names.index(_AFTER_THE_ENCODER)]
    facts = {name: getattr(config, name) for name in of_encoder if name not in _NOT_OF_THE_ENCODER}
    kept = {name: value for name, value in facts.items() if name not in _ADDED or _ADDED[name] != value}
    if config.fields:
        kept["fields"] = [asdict(field) for field in config.fields]
    return kept


def pretraining_facts(config: TrainConfig) -> dict[str, Any]:
    """All that its weights depend on: as `encoder_facts`, whatever the readout."""
    return encoder_facts(replace(config, readout=MEAN))


def embeddings(
    sessions: Sequence[Session], learn_from: Bool, config: TrainConfig, hidden: Sequence[str] = ()
) -> Float64:
    """[S, D] of an encoder pretrained where `learn_from` [S] is true; it never sees `hidden` fields."""
    return embedder(sessions, learn_from, config, hidden)(sessions).astype(np.float64)


def embedder(
    sessions: Sequence[Session], learn_from: Bool, config: TrainConfig, hidden: Sequence[str] = ()
) -> Embed:
    """As `embeddings`, for any sessions."""
    tokenizer, encoder = trained(sessions, learn_from, config, hidden)

    def embedded(asked: Sequence[Session]) -> Float32:
        with deterministic(config.threads):
            return embed(encoder, without(Corpus.of(asked, tokenizer), hidden))

    return embedded


def trained(
    sessions: Sequence[Session], learn_from: Bool, config: TrainConfig, hidden: Sequence[str] = ()
) -> tuple[Tokenizer, Encoder]:
    """Of the sessions where `learn_from` [S] is true, without `hidden` fields."""
    chosen = [session for session, learnt in zip(sessions, learn_from, strict=True) if learnt]
    tokenizer = new_tokenizer(chosen, config)
    generator = torch.Generator().manual_seed(config.seed)
    with deterministic(config.threads):
        corpus = without(Corpus.of(chosen, tokenizer), hidden)
        return tokenizer, pretrain(corpus, tokenizer, config, generator, lambda *_: None).encoder


def without(corpus: Corpus, hidden: Sequence[str]) -> Corpus:
    """The fields named are missing everywhere, as on a site that doesn't have them."""
    buckets = []
    for bucket in corpus.buckets:
        whole = torch.arange(len(bucket.rows))
        blank = _blanked(bucket.pick(whole), hidden)
        buckets.append(LengthBucket(bucket.rows, blank, bucket.visitors_of(whole)))
    return replace(corpus, buckets=tuple(buckets))


def _blanked(tokens: Tokens, hidden: Sequence[str]) -> Tokens:
    event_ids, session_ids = tokens.event_ids.clone(), tokens.session_ids.clone()
    for name in hidden:
        if name in EVENT_FIELDS:
            event_ids[:, :, EVENT_FIELDS.index(name)] = 0
        if name in SESSION_FIELDS:
            session_ids[:, SESSION_FIELDS.index(name)] = 0
    dwell, query = float("dwell" not in hidden), int("query" not in hidden)
    return tokens._replace(
        event_ids=event_ids,
        session_ids=session_ids,
        dwell_z=tokens.dwell_z * dwell,
        query_slot=tokens.query_slot * query,
    )


@dataclass(frozen=True)
class Student:
    """A head distilled from labels, asked about all sessions."""

    probabilities: Float64
    """[S, I], calibrated on validation"""
    novelty: Float64
    """[S]"""


def student(
    embedded: Float64,
    soft: Float64,
    parts: SplitMasks,
    labelled: int,
    config: TrainConfig,
    seed: int,
    unusual: Surprising | None = None,
) -> Student:
    """Learns from labels `soft` [S, I]: of at most `labelled` training sessions, a quarter for validation."""
    rng = np.random.default_rng(seed)
    x = embedded.astype(np.float32)
    train, validation = np.flatnonzero(parts.train), np.flatnonzero(parts.validation)
    generator = torch.Generator().manual_seed(seed)
    with deterministic(config.threads):
        distilled = distill(
            LabelledEmbeddings(x[train], labels_of_some(soft[train], labelled, rng)),
            LabelledEmbeddings(x[validation], labels_of_some(soft[validation], labelled // 4, rng)),
            config,
            generator,
            unusual,
        )
        logits, novelty = outputs(distilled.head, x)
    return Student(distilled.calibration.probabilities(logits).astype(np.float64), novelty.astype(np.float64))


def keyless_labels(
    embedded: Float64, sessions: Sequence[Session], parts: SplitMasks, config: TrainConfig
) -> Float64:
    """[S, K]: what the keyless teacher says of every session, its clusters found on training sessions."""
    x = embedded.astype(np.float32)
    train = np.flatnonzero(parts.train)
    train_input = TeacherInput([sessions[row] for row in train.tolist()], x[train])
    with deterministic(config.threads):
        output = ClusterTeacher(config, config.seed).teach(train_input, TeacherInput(sessions, x), None)
    soft = np.zeros((len(sessions), output.validation.probabilities.shape[1]))
    soft[output.validation.rows] = output.validation.probabilities
    return soft


def labels_of_some(soft: Float64, most: int, rng: np.random.Generator) -> SoftLabels:
    rows: Int64 = np.sort(rng.permutation(len(soft))[:most])
    return SoftLabels(rows, soft[rows].astype(np.float32))
