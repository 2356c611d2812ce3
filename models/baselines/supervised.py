"""Trained on outcomes: several tasks of the session's own future after TRACE, conversions after BST.

W. Black et al., TRACE: transformer-based user representations from attributed clickstream event sequences,
RecTour 2024, arXiv 2409.12972; Q. Chen et al., Behavior sequence Transformer for e-commerce recommendation in
Alibaba, DLP-KDD 2019, arXiv 1905.06874. Both are variants. B sessions, D wide, P labels.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamer.models.arrays import Float64
from streamer.models.baselines.interface import BaselineInput, Labelled, draw_linear, embed_all, fit
from streamer.models.fields import LEARNT_FIELDS
from streamer.models.training.corpus import Corpus, slice_clicks
from streamer.models.training.encoder import NEVER, Block, Encoder, Tokens
from streamer.models.training.pretrain import deterministic, new_encoder

_TASKS = ("page_type", "path_1", "path_2", "path_3", "event_type", "category")
"""Of these fields: which values will still occur."""
_BOUNCE_WITHIN = 5
"""Clicks."""
STOP_AFTER = 3
"""Epochs without a better validation loss."""
MAX_EPOCHS = 40
_INIT_STD = 0.05


class MultiTask(nn.Module):
    """From a beginning: which pages, events and categories follow, whether a search does, and whether the
    session ends within five clicks.

    The paper's targets are a purchase within two weeks, a bounce within five pages, and a search, a product
    and an order seen in the same session. A variant: pages are those of all types and paths rather than
    three; a purchase is an outcome, which no pretraining here sees; tasks have no weights by how rare they
    are; a session stands for the paper's journey of several; and the encoder is this project's.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        d, sizes = encoder.shape.dim, encoder.shape.event_sizes
        self.fields = [LEARNT_FIELDS.index(name) for name in _TASKS]
        self.occurs = nn.ModuleList(nn.Linear(d, sizes[field]) for field in self.fields)
        self.ends_and_searches = nn.Linear(d, 2)

    def loss(self, tokens: Tokens, generator: torch.Generator) -> Tensor:
        lengths = tokens.lengths.long()
        cut = 1 + (torch.rand(len(lengths), generator=generator) * (lengths - 1)).long()
        embedding = self.encoder(*slice_clicks(tokens, torch.zeros_like(cut), cut))
        at = torch.arange(tokens.dwell_z.shape[1])
        later = (at >= cut.unsqueeze(1)) & (at < lengths.unsqueeze(1))
        searches = ((tokens.query_slot > 0) & later).any(1)
        two = torch.stack([lengths - cut <= _BOUNCE_WITHIN, searches], dim=1).float()
        terms = [F.binary_cross_entropy_with_logits(self.ends_and_searches(embedding), two)]
        for field, head in zip(self.fields, self.occurs, strict=True):
            logits = head(embedding)
            present = torch.zeros_like(logits)
            present.scatter_(1, tokens.event_ids[:, :, field].long() * later, 1.0)
            terms.append(F.binary_cross_entropy_with_logits(logits[:, 1:], present[:, 1:]))
        return torch.stack(terms).sum()


def trace(given: BaselineInput) -> Float64:
    """[S, D]"""
    config, tokenizer, generator = given.config, given.tokenizer(), given.generator()
    with deterministic(config.threads):
        model = MultiTask(new_encoder(tokenizer, config, generator))
        for part in (model.occurs, model.ends_and_searches):
            draw_linear(part, generator)
        fit(model, model.loss, Corpus.of(given.learnable(), tokenizer), config, generator)
        corpus = Corpus.of(given.sessions, tokenizer)
        return embed_all(lambda tokens: model.encoder(*tokens), corpus, config.dim)


class TargetAware(nn.Module):
    """Whether an outcome follows, by a token of it that attends to the session in a last layer.

    A variant: the targets are what is predicted, each with a vector of its own rather than that of an item
    of the sequence, which outcomes needn't be; one pass asks about all of them, for a target sees the session
    and itself, and the session no target; and positions are the encoder's.
    """

    def __init__(self, encoder: Encoder, targets: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.targets = nn.Parameter(torch.zeros(targets, encoder.shape.dim))
        self.block = Block(encoder.shape)
        self.widen = nn.Linear(encoder.shape.dim, encoder.shape.hidden)
        self.score = nn.Linear(encoder.shape.hidden, 1)

    def initialize(self, generator: torch.Generator) -> None:
        for part in (self.block, self.widen, self.score):
            draw_linear(part, generator)
        with torch.no_grad():
            self.targets.copy_(torch.randn(self.targets.shape, generator=generator) * _INIT_STD)

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """The session's vector [B, D] and the logit of each target [B, P]."""
        hidden = self.encoder.hidden_states(tokens)
        count, width, _ = hidden.shape
        seen = Encoder.mask(tokens.lengths, width).unsqueeze(1).expand(-1, width + len(self.targets), -1)
        none = seen.new_zeros(width, len(self.targets))
        itself = torch.cat([none, torch.eye(len(self.targets))]).expand(count, -1, -1)
        bias = (1.0 - torch.cat([seen, itself], dim=2)) * NEVER
        x = torch.cat([hidden, self.targets.expand(count, -1, -1)], dim=1)
        asked = self.block(x, bias.unsqueeze(1))[:, width:]
        logits: Tensor = self.score(F.relu(self.widen(asked))).squeeze(2)
        return self.encoder.pool(hidden, tokens.lengths), logits


def bst(given: BaselineInput) -> Float64:
    """[S, D + P]: vector and logits; learns from the labelled sessions alone, until validation labels get no
    better."""
    labelled = given.labelled
    if labelled is None:
        raise ValueError("the supervised Transformer has no labels, expected outcomes of some sessions")
    config, tokenizer, generator = given.config, given.tokenizer(), given.generator()
    targets = labelled.labels.shape[1]
    with deterministic(config.threads):
        model = TargetAware(new_encoder(tokenizer, config, generator), targets)
        model.initialize(generator)
        some = Corpus.of([given.sessions[row] for row in labelled.rows.tolist()], tokenizer)
        _fit_labels(model, some, labelled, given)
        corpus = Corpus.of(given.sessions, tokenizer)
        return embed_all(lambda tokens: torch.cat(model(tokens), dim=1), corpus, config.dim + targets)


def _fit_labels(model: TargetAware, corpus: Corpus, labelled: Labelled, given: BaselineInput) -> None:
    """Leaves in `model` the weights of the epoch with the least validation loss."""
    config, generator = given.config, given.generator()
    labels = torch.from_numpy(labelled.labels.astype(np.float32))
    train = torch.from_numpy(~labelled.validation)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    best, least, waited = copy.deepcopy(model.state_dict()), float("inf"), 0
    for _ in range(MAX_EPOCHS):
        model.train()
        for bucket, rows in corpus.batches(config.batch, generator):
            chosen = rows[train[bucket.rows[rows]]]
            if not len(chosen):
                continue
            logits = model(bucket.pick(chosen))[1]
            loss = F.binary_cross_entropy_with_logits(logits, labels[bucket.rows[chosen]])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        found = _validation_loss(model.eval(), corpus, labels, train)
        if found < least:
            best, least, waited = copy.deepcopy(model.state_dict()), found, 0
        elif (waited := waited + 1) == STOP_AFTER:
            break
    model.load_state_dict(best)
    model.eval()


@torch.no_grad()
def _validation_loss(model: TargetAware, corpus: Corpus, labels: Tensor, train: Tensor) -> float:
    total, count = 0.0, 0
    for rows, tokens in corpus.in_order():
        kept = ~train[rows]
        if kept.any():
            logits = model(tokens)[1][kept]
            total += float(F.binary_cross_entropy_with_logits(logits, labels[rows[kept]], reduction="sum"))
            count += int(kept.sum())
    return total / max(1, count)
