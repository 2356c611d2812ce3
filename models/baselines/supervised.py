"""Trained on outcomes: several tasks of the session's own future after TRACE, conversions after BST.

Both are variants. TRACE learns several engagement targets at once from the beginning of a session, here
without those of paths. Q. Chen et al., Behavior sequence Transformer, DLP-KDD 2019, learns the outcome,
here without a target item. B sessions, D wide, P labels.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamer.models.arrays import Float64
from streamer.models.baselines.interface import BaselineInput, draw_linear, embed_all, fit
from streamer.models.fields import LEARNT_FIELDS
from streamer.models.training.corpus import Corpus, slice_clicks
from streamer.models.training.encoder import Encoder, Tokens
from streamer.models.training.pretrain import deterministic, new_encoder

_TASKS = ("page_type", "event_type", "category")
"""Of these fields: which values will still occur."""
STOP_AFTER = 3
"""Epochs without a better validation loss."""
MAX_EPOCHS = 40


class MultiTask(nn.Module):
    """From a beginning: which kinds of pages and events follow, how many clicks, how much time."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        d, sizes = encoder.shape.dim, encoder.shape.event_sizes
        self.fields = [LEARNT_FIELDS.index(name) for name in _TASKS]
        self.occurs = nn.ModuleList(nn.Linear(d, sizes[field]) for field in self.fields)
        self.amount = nn.Linear(d, 2)

    def loss(self, tokens: Tokens, generator: torch.Generator) -> Tensor:
        lengths = tokens.lengths.long()
        cut = 1 + (torch.rand(len(lengths), generator=generator) * (lengths - 1)).long()
        beginning = slice_clicks(tokens, torch.zeros_like(cut), cut)
        embedding = self.encoder(*beginning)
        later = torch.arange(tokens.dwell_z.shape[1]) >= cut.unsqueeze(1)
        later = later & (torch.arange(tokens.dwell_z.shape[1]) < lengths.unsqueeze(1))
        time = ((tokens.dwell_z + 3.0).clamp(min=0.0) * later).sum(1)
        amounts = torch.stack([torch.log1p((lengths - cut).float()), torch.log1p(time)], dim=1)
        terms = [F.mse_loss(self.amount(embedding), amounts)]
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
        for part in (model.occurs, model.amount):
            draw_linear(part, generator)
        fit(model, model.loss, Corpus.of(given.learnable(), tokenizer), config, generator)
        corpus = Corpus.of(given.sessions, tokenizer)
        return embed_all(lambda tokens: model.encoder(*tokens), corpus, config.dim)


def bst(given: BaselineInput) -> Float64:
    """[S, D]: learns from the labelled sessions alone, stops when validation labels get no better."""
    labelled = given.labelled
    if labelled is None:
        raise ValueError("the supervised Transformer has no labels, expected outcomes of some sessions")
    config, tokenizer, generator = given.config, given.tokenizer(), given.generator()
    with deterministic(config.threads):
        encoder = new_encoder(tokenizer, config, generator)
        head = nn.Linear(config.dim, labelled.labels.shape[1])
        draw_linear(head, generator)
        some = Corpus.of([given.sessions[row] for row in labelled.rows.tolist()], tokenizer)
        labels = torch.from_numpy(labelled.labels.astype(np.float32))
        _fit_labels(encoder, head, some, labels, torch.from_numpy(~labelled.validation), given)
        corpus = Corpus.of(given.sessions, tokenizer)
        return embed_all(lambda tokens: encoder(*tokens), corpus, config.dim)


def _fit_labels(
    encoder: Encoder, head: nn.Linear, corpus: Corpus, labels: Tensor, train: Tensor, given: BaselineInput
) -> None:
    """Leaves in `encoder` the weights of the epoch with the least validation loss."""
    config, generator = given.config, given.generator()
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    best, least, waited = copy.deepcopy(encoder.state_dict()), float("inf"), 0
    for _ in range(MAX_EPOCHS):
        encoder.train()
        for bucket, rows in corpus.batches(config.batch, generator):
            chosen = rows[train[bucket.rows[rows]]]
            if not len(chosen):
                continue
            logits = head(encoder(*bucket.pick(chosen)))
            loss = F.binary_cross_entropy_with_logits(logits, labels[bucket.rows[chosen]])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        found = _validation_loss(encoder.eval(), head, corpus, labels, train)
        if found < least:
            best, least, waited = copy.deepcopy(encoder.state_dict()), found, 0
        elif (waited := waited + 1) == STOP_AFTER:
            break
    encoder.load_state_dict(best)
    encoder.eval()


@torch.no_grad()
def _validation_loss(
    encoder: Encoder, head: nn.Linear, corpus: Corpus, labels: Tensor, train: Tensor
) -> float:
    total, count = 0.0, 0
    for rows, tokens in corpus.in_order():
        kept = ~train[rows]
        if kept.any():
            logits = head(encoder(*tokens))[kept]
            total += float(F.binary_cross_entropy_with_logits(logits, labels[rows[kept]], reduction="sum"))
            count += int(kept.sum())
    return total / max(1, count)
