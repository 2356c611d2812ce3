"""The pretraining objectives: masked fields, the rest of the session, and contrast of its two slices.

A recipe may have two more: what follows each beginning of the session, and contrast of a visitor's sessions.
All read the mean of a session's tokens, whatever readout its embedding will have; those two have parameters
and draw only if they have a weight.

Shapes: B sessions, T clicks, F fields, D wide, V ids. Every random draw comes from the generator given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamer.models.fields import DWELL, EVENT_FIELDS, GAP, LEARNT_FIELDS
from streamer.models.training.config import OBJECTIVES, TrainConfig
from streamer.models.training.corpus import dwell_is_gap, slice_clicks, without_events_of_pages
from streamer.models.training.encoder import NEVER, Encoder, Tokens
from streamer.models.training.processes import ALONE, Processes


@dataclass(frozen=True)
class Losses:
    masked: Tensor
    rest: Tensor
    contrast: Tensor
    causal: Tensor
    visitor: Tensor


class VisitorPairs(NamedTuple):
    """P sessions of a batch, and for each another one of the same visitor."""

    which: Tensor
    """[P]: places in the batch"""
    others: Sequence[tuple[Tensor, Tokens]]
    """(which of the P, their tokens), by length bucket"""


class Objectives(nn.Module):
    """The heads that only pretraining needs; output weights are tied to the encoder's embedding tables."""

    def __init__(self, encoder: Encoder, config: TrainConfig, processes: Processes = ALONE) -> None:
        super().__init__()
        d, fields = encoder.shape.dim, len(encoder.shape.event_sizes)
        self.config = config
        self.processes = processes
        self.field_of = list(encoder.shape.columns)
        """Of each column of `event_ids`."""
        self.columns = [[at for at, of in enumerate(self.field_of) if of == field] for field in range(fields)]
        self.predicted = [*range(len(LEARNT_FIELDS)), *range(len(EVENT_FIELDS), fields)]
        """Fields that are predicted of a session's other clicks: all but times."""
        self.hidden_field = nn.Parameter(torch.zeros(fields, d))
        self.hidden_query = nn.Parameter(torch.zeros(d))
        self.to_field = nn.ModuleList(nn.Linear(d, d) for _ in range(fields))
        self.to_query = nn.Linear(d, d)
        self.rest_to_field = nn.ModuleList(nn.Linear(d, d) for _ in self.predicted)
        self.rest_to_query = nn.Linear(d, d)
        self.project = nn.Linear(d, d)
        if config.weight_causal:
            self.to_next = nn.ModuleList(nn.Linear(d, d) for _ in self.predicted)
            self.to_later = nn.ModuleList(nn.Linear(d, d) for _ in self.predicted)
            self.to_end = nn.Linear(d, 1)
        if config.weight_visitor:
            self.project_visitor = nn.Linear(d, d)

    def initialize(self, generator: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                with torch.no_grad():
                    drawn = torch.randn(module.weight.shape, generator=generator)
                    module.weight.copy_(drawn * module.in_features**-0.5)
                    module.bias.zero_()

    def losses(
        self,
        encoder: Encoder,
        tokens: Tokens,
        visitors: Tensor,
        generator: torch.Generator,
        pairs: VisitorPairs | None = None,
        step: int = 0,
    ) -> Losses:
        """Those of objectives that aren't learnt at this step are 0.

        `pairs` are needed where contrast between a visitor's sessions has a weight.
        """
        # Objectives that aren't learnt now aren't computed; a parameter times 0 gives the zero a gradient.
        nothing = encoder.class_token.sum() * 0.0
        learnt = learnt_at(step, self.config)
        told = tokens if self.config.events_of_pages else without_events_of_pages(tokens)
        masked = self._masked(encoder, tokens, told, generator) if "masked" in learnt else nothing
        rest, contrast = self._of_slices(encoder, told, visitors, generator, nothing, learnt)
        causal = self._causal(encoder, tokens) if self.config.weight_causal else nothing
        visitor = nothing if pairs is None else self._of_visitors(encoder, tokens, visitors, pairs)
        return Losses(masked, rest, contrast, causal, visitor)

    def _of_slices(
        self,
        encoder: Encoder,
        tokens: Tokens,
        visitors: Tensor,
        generator: torch.Generator,
        nothing: Tensor,
        learnt: Collection[str],
    ) -> tuple[Tensor, Tensor]:
        """The rest of the session, and contrast."""
        cuts = "rest" in learnt or "contrast" in learnt
        halves = _halves(tokens, generator, self._fewest) if cuts else None
        rest, contrast = nothing, nothing
        if halves is None:
            if self.processes.count > 1 and "contrast" in learnt:
                none = nothing.expand(0, encoder.shape.dim)
                contrast = self._contrast_with_all(self.project, none, none, visitors[:0])
            return rest, contrast
        first, second, rows = halves
        of_first, of_second = encoder.mean_of(first), encoder.mean_of(second)
        if "rest" in learnt:
            rest = (self._rest(encoder, of_first, second) + self._rest(encoder, of_second, first)) / 2
        if "contrast" in learnt:
            contrast = self._apart(self.project, of_first, of_second, visitors[rows])
        return rest, contrast

    def _of_visitors(self, encoder: Encoder, tokens: Tokens, visitors: Tensor, pairs: VisitorPairs) -> Tensor:
        """Contrast of sessions and others of their visitors, all without device, referrer and hour, which
        alone would identify somebody."""
        own = Tokens(*(each[pairs.which] for each in tokens))
        first = encoder.mean_of(own._replace(session_ids=torch.zeros_like(own.session_ids)))
        second = torch.zeros_like(first)
        for which, some in pairs.others:
            nameless = some._replace(session_ids=torch.zeros_like(some.session_ids))
            second = second.index_copy(0, which, encoder.mean_of(nameless).to(second.dtype))
        if self.processes.count == 1 and len(first) < 2:
            return first.sum() * 0.0
        return self._apart(self.project_visitor, first, second, visitors[pairs.which])

    def _apart(self, project: nn.Linear, first: Tensor, second: Tensor, visitors: Tensor) -> Tensor:
        apart = self._contrast if self.processes.count == 1 else self._contrast_with_all
        return apart(project, first, second, visitors)

    @property
    def _fewest(self) -> int:
        """Sessions that can be cut: one alone has nothing to differ from, unless another process has."""
        return 2 if self.processes.count == 1 else 1

    def _masked(
        self, encoder: Encoder, tokens: Tokens, targets: Tokens, generator: torch.Generator
    ) -> Tensor:
        """Masked event modelling: cross-entropy of the hidden fields, averaged over the fields of the batch.
        `targets` has what is predicted.

        The masking rates of whole clicks, single fields and session fields are in `config`.
        """
        shape = tokens.event_ids.shape
        whole = _uniform(shape[:2], generator) < self.config.mask_events
        of_fields = torch.Size((*shape[:2], len(self.columns)))
        single = _uniform(of_fields, generator) < self.config.mask_fields
        session = _uniform(tokens.session_ids.shape, generator) < self.config.mask_session
        at_click = torch.arange(shape[1], device=tokens.lengths.device) < tokens.lengths.unsqueeze(1)
        hidden = _with_copies((whole.unsqueeze(2) | single) & at_click.unsqueeze(2), tokens.event_ids)
        no_query = whole & (tokens.query_slot > 0)
        seen = tokens._replace(
            event_ids=tokens.event_ids * ~hidden[:, :, self.field_of],
            dwell_z=tokens.dwell_z * ~hidden[:, :, DWELL],
            query_slot=tokens.query_slot * ~no_query,
            session_ids=tokens.session_ids * ~session,
        )
        extra = hidden.to(torch.float32) @ self.hidden_field + no_query.unsqueeze(2) * self.hidden_query
        states = encoder.hidden_states(seen, extra)[:, 1:]
        terms = []
        for field, to_field in enumerate(self.to_field):
            ids = targets.event_ids[:, :, self.columns[field]]
            at = hidden[:, :, field] & (ids > 0).any(2)
            if at.any():
                logits = _logits(to_field(states[at]), encoder.events.of_field(field))
                terms.append(_click_loss(logits, ids[at]))
        if no_query.any():
            asked = _queries_at(tokens, no_query)
            terms.append(_bag_loss(_logits(self.to_query(states[no_query]), encoder.queries.weight), asked))
        return torch.stack(terms).mean() if terms else states.new_zeros(())

    def _rest(self, encoder: Encoder, embedding: Tensor, rest: Tokens) -> Tensor:
        """Cross-entropy of an embedding's [B, D] prediction of the bag of ids in the other slice."""
        terms = []
        for field, to_field in zip(self.predicted, self.rest_to_field, strict=True):
            bag = rest.event_ids[:, :, self.columns[field]].flatten(1)
            if (bag > 0).any():
                logits = _logits(to_field(embedding), encoder.events.of_field(field))
                terms.append(_bag_loss(logits, bag))
        at, click = (rest.query_slot > 0).nonzero(as_tuple=True)
        if len(at):
            asked = rest.query_ids[at, rest.query_slot[at, click].long() - 1]
            logits = _logits(self.rest_to_query(embedding[at]), encoder.queries.weight)
            terms.append(_bag_loss(logits, asked))
        return torch.stack(terms).mean() if terms else embedding.new_zeros(())

    def next_value(self, encoder: Encoder, tokens: Tokens, field: int) -> Tensor:
        """[B, V]: logits of a learnt field's value in the click after the last, where it is learnt at all."""
        states = encoder.causal_states(tokens)
        last = states[torch.arange(len(states), device=states.device), tokens.lengths.long()]
        return _logits(self.to_next[field](last), encoder.events.of_field(field))

    def _causal(self, encoder: Encoder, tokens: Tokens) -> Tensor:
        """Cross-entropy of the next click's fields, of the bag of all later ones, and of whether the session
        ends, averaged over the fields of the batch.
        """
        states = encoder.causal_states(tokens)
        at = torch.arange(tokens.dwell_z.shape[1], device=tokens.lengths.device)
        at_click = at < tokens.lengths.unsqueeze(1)
        before = states[:, :-1][at_click]
        session, click = at_click.nonzero(as_tuple=True)
        terms = []
        for field, to_next, to_later in zip(self.predicted, self.to_next, self.to_later, strict=True):
            ids, table = tokens.event_ids[:, :, self.columns[field]], encoder.events.of_field(field)
            following = ids[session, click]
            known = (following > 0).any(1)
            if known.any():
                logits = _logits(to_next(before[known]), table)
                terms.append(_click_loss(logits, following[known]))
                bags = ids[session] * (at >= click.unsqueeze(1)).unsqueeze(2)
                terms.append(_bag_loss(_logits(to_later(before), table), bags.flatten(1)))
        ends = (click + 1 == tokens.lengths[session]).to(torch.float32)
        logit = self.to_end(states[:, 1:][at_click]).squeeze(1)
        terms.append(F.binary_cross_entropy_with_logits(logit, ends))
        return torch.stack(terms).mean()

    def _contrast(self, project: nn.Linear, first: Tensor, second: Tensor, visitors: Tensor) -> Tensor:
        """InfoNCE in both directions; other sessions of the same visitor are not negatives."""
        a, b = F.normalize(project(first), dim=1), F.normalize(project(second), dim=1)
        same = visitors.unsqueeze(0) == visitors.unsqueeze(1)
        same.fill_diagonal_(False)
        scores = (a @ b.T / self.config.contrast_temperature).masked_fill(same, NEVER)
        target = torch.arange(len(a), device=a.device)
        return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2

    def _contrast_with_all(
        self, project: nn.Linear, first: Tensor, second: Tensor, visitors: Tensor
    ) -> Tensor:
        """As `_contrast`, with the sessions of all processes; its average over them is that of all sessions.

        `first` and `second` may be empty.
        """
        own = torch.stack([F.normalize(project(half), dim=1) for half in (first, second)], dim=1)
        of_all, start = self.processes.joined(own)
        if len(of_all) < 2:
            return of_all.sum() * 0.0
        who = self.processes.joined_numbers(visitors)
        a, b = of_all.unbind(1)
        target = torch.arange(start, start + len(own), device=own.device)
        same = visitors.unsqueeze(1) == who.unsqueeze(0)
        same[torch.arange(len(own), device=own.device), target] = False
        each = [
            F.cross_entropy(
                (mine @ theirs.T / self.config.contrast_temperature).masked_fill(same, NEVER),
                target,
                reduction="sum",
            )
            for mine, theirs in ((own[:, 0], b), (own[:, 1], a))
        ]
        return (each[0] + each[1]) / 2 * self.processes.count / len(of_all) + of_all.sum() * 0.0


def learnt_at(step: int, config: TrainConfig) -> set[str]:
    """Names of the objectives that are learnt in a step, without what follows and a visitor's sessions."""
    weighed = {name for name in OBJECTIVES if getattr(config, f"weight_{name}")}
    others = weighed - {"rest"} or config.weight_causal or config.weight_visitor
    return weighed - {"rest"} if others and step % config.rest_every else weighed


def _uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


def _with_copies(hidden: Tensor, event_ids: Tensor) -> Tensor:
    """[B, T, F]: where a dwell is the next click's gap, both are hidden if one is: one tells the other."""
    same = dwell_is_gap(event_ids)[:, :-1]
    either = (hidden[:, :-1, DWELL] | hidden[:, 1:, GAP]) & same
    hidden = hidden.clone()
    hidden[:, :-1, DWELL] |= either
    hidden[:, 1:, GAP] |= either
    return hidden


def _halves(
    tokens: Tokens, generator: torch.Generator, fewest: int = 2
) -> tuple[Tokens, Tokens, Tensor] | None:
    """Each session of two clicks or more, cut at a random place; None if there are fewer than `fewest`."""
    rows = (tokens.lengths > 1).nonzero().squeeze(1)
    if len(rows) < fewest:
        return None
    some = Tokens(*(field[rows] for field in tokens))
    lengths = some.lengths.long()
    cut = 1 + (_uniform(lengths.shape, generator) * (lengths - 1)).long()
    first = slice_clicks(some, torch.zeros_like(cut), cut)
    return first, slice_clicks(some, cut, lengths - cut), rows


def _logits(predicted: Tensor, table: Tensor) -> Tensor:
    """[N, V] against every row of a table; id 0 is never the answer."""
    scores = predicted @ table.T
    return torch.cat([torch.full_like(scores[:, :1], NEVER), scores[:, 1:]], dim=1)


def _click_loss(logits: Tensor, ids: Tensor) -> Tensor:
    """Mean cross-entropy of logits [N, V] with a field's ids [N, W] of a click, at least one of them."""
    return F.cross_entropy(logits, ids[:, 0].long()) if ids.shape[1] == 1 else _bag_loss(logits, ids)


def _bag_loss(logits: Tensor, bag: Tensor) -> Tensor:
    """Mean cross-entropy of logits [N, V] with bags of ids [N, M]; 0 is no id, empty bags don't count."""
    present = (bag > 0).to(logits.dtype)
    each = logits.log_softmax(1).gather(1, bag.long()) * present
    size = present.sum(1)
    return -(each.sum(1) / size.clamp(min=1)).sum() / (size > 0).sum().clamp(min=1)


def _queries_at(tokens: Tokens, at: Tensor) -> Tensor:
    """[N, G]: the query hashes of the clicks where `at` [B, T] is true."""
    row, click = at.nonzero(as_tuple=True)
    return tokens.query_ids[row, tokens.query_slot[row, click].long() - 1]
