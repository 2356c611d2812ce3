"""Several latent intents: contrast with clusters of sessions, and capsules of one session's interests.

Y. Chen et al., Intent contrastive learning for sequential recommendation, WWW 2022 (ICL), and C. Li et al.,
Multi-interest network with dynamic routing for recommendation at Tmall, CIKM 2019 (MIND). Both are variants:
a click is predicted by its fields, over all their values rather than sampled ones. B sessions, T clicks,
K intents or interests, D wide.
"""

from __future__ import annotations

import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.nn import functional as F

from streamer.models.arrays import Float64
from streamer.models.baselines.interface import BaselineInput, SelfSupervised, embed_all, fitted
from streamer.models.baselines.next_click import NextClick, click_loss
from streamer.models.fields import GAP, LEARNT_FIELDS
from streamer.models.training.corpus import Corpus, slice_clicks
from streamer.models.training.encoder import MAX_CLICKS, NEVER, Encoder, Tokens

INTENTS = 32
"""Clusters, as many as the keyless taxonomy may have."""
WEIGHT_INTENTS = WEIGHT_VIEWS = 0.1
"""Of the two contrasts, lambda and beta of ICL; the next click has 1."""
PART, MASKED = 0.6, 0.3
"""Share of a session that is cropped or put in another order, and of its clicks that are masked."""
_CROP, _MASK, _REORDER = range(3)

INTERESTS = 4
ROUNDS = 3
"""Of routing."""
_EPSILON = 1e-9


class IntentContrast(SelfSupervised):
    """Next click as SASRec, with two views of a session close to each other and to the session's intent.

    L = L_next + lambda L_ICL + beta L_views. Intents are the centres of k-means on all sessions' mean states,
    found anew before every epoch (the E step). L_ICL is InfoNCE by inner product of each view with its
    session's centre, where centres of sessions with the same intent are no negatives; L_views that of each
    view with the other. Besides fields for items, a variant in that a view has no device, referrer and hour,
    which alone would tell whose it is.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.next_click = NextClick(encoder, "causal")
        self.centres = torch.zeros(0, encoder.shape.dim)

    def begin_epoch(self, corpus: Corpus, generator: torch.Generator) -> None:
        means = embed_all(self._mean, corpus, self.encoder.shape.dim)
        seed = int(torch.randint(2**31, (), generator=generator))
        with threadpool_limits(1):
            found = KMeans(min(INTENTS, len(means)), n_init=1, random_state=seed).fit(means)
        self.centres = torch.from_numpy(found.cluster_centers_).to(torch.float32)

    def loss(self, tokens: Tokens, generator: torch.Generator, /) -> Tensor:
        one, other = (self._mean(augmented(tokens, generator)) for _ in range(2))
        with torch.no_grad():
            intents = torch.cdist(self._mean(tokens), self.centres).argmin(1)
        same = (intents.unsqueeze(0) == intents.unsqueeze(1)).fill_diagonal_(False)
        centres, none = self.centres[intents], torch.zeros_like(same)
        of_intents = _contrast(one, centres, same) + _contrast(other, centres, same)
        of_views = _contrast(one, other, none) + _contrast(other, one, none)
        following = self.next_click.loss(tokens, generator)
        return following + WEIGHT_INTENTS * of_intents + WEIGHT_VIEWS * of_views

    def embed(self, tokens: Tokens) -> Tensor:
        return self.next_click.embed(tokens)

    def _mean(self, tokens: Tokens) -> Tensor:
        """[B, D]"""
        return self.next_click.embed(tokens)[:, self.encoder.shape.dim :]


def _contrast(own: Tensor, others: Tensor, excluded: Tensor) -> Tensor:
    """InfoNCE of [B, D] by inner products; pairs `excluded` [B, B] are no negatives."""
    scores = (own @ others.T).masked_fill(excluded, NEVER)
    return F.cross_entropy(scores, torch.arange(len(own)))


def augmented(tokens: Tokens, generator: torch.Generator) -> Tokens:
    """Each session cropped, masked or partly in another order, whichever is drawn (as X. Xie et al., CL4SRec,
    ICDE 2022), without device, referrer and hour."""
    lengths = tokens.lengths.long()
    count, width = tokens.dwell_z.shape
    at = torch.arange(width)
    which = torch.randint(3, (count, 1), generator=generator)
    part = (lengths * PART).ceil().long()
    begin = (torch.rand(count, generator=generator) * (lengths - part + 1)).long().unsqueeze(1)
    drawn = torch.rand(count, width, generator=generator)
    part = part.unsqueeze(1)
    moved = torch.where((at >= begin) & (at < begin + part), begin + drawn * (part - 1), at.float())
    source = torch.where(which == _REORDER, moved.argsort(1), at)
    source = torch.where(which == _CROP, (begin + at).clamp(max=width - 1), source)
    length = torch.where(which == _CROP, part, lengths.unsqueeze(1))
    kept = (at < length) & ((which != _MASK) | (drawn >= MASKED))
    columns = source.unsqueeze(2).expand(-1, -1, tokens.event_ids.shape[2])
    event_ids = tokens.event_ids.gather(1, columns) * kept.unsqueeze(2)
    event_ids[:, 0, GAP] = 0
    return Tokens(
        event_ids=event_ids,
        dwell_z=tokens.dwell_z.gather(1, source) * kept,
        query_slot=tokens.query_slot.gather(1, source) * kept,
        query_ids=tokens.query_ids,
        session_ids=torch.zeros_like(tokens.session_ids),
        lengths=length.squeeze(1).to(torch.int32),
    )


class Interests(SelfSupervised):
    """Clicks routed to capsules, one an interest, of which the next click chooses one.

    A session of n clicks has max(1, min(K, log2 n)) interests u_j = squash(sum_i w_ij S e_i), where w_i is
    the softmax over the interests of logits b_ij, which grow by u_j . S e_i from round to round. They begin
    with values that are drawn once, and no gradient goes through the earlier rounds. Each capsule passes two
    layers together with the session's context. Of a beginning's interests, the one most like the click that
    follows predicts it: label-aware attention with its power p to infinity. The vector is the mean and the
    maximum over the interests, for heads have no label to choose by: a variant by that too.
    """

    first_logits: Tensor
    """[MAX_CLICKS, K]"""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        d, hidden = encoder.shape.dim, encoder.shape.hidden
        self.encoder = encoder
        self.bilinear = nn.Linear(d, d, bias=False)
        self.widen = nn.Linear(2 * d, hidden)
        self.narrow = nn.Linear(hidden, d)
        self.to_field = nn.ModuleList(nn.Linear(d, d) for _ in LEARNT_FIELDS)
        self.register_buffer("first_logits", torch.zeros(MAX_CLICKS, INTERESTS))

    def initialize(self, generator: torch.Generator) -> None:
        self.first_logits.copy_(torch.randn(self.first_logits.shape, generator=generator))

    def interests(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """[B, K, D], and which there are [B, K]."""
        lengths = tokens.lengths.unsqueeze(1)
        clicks = self.bilinear(self.encoder.click_vectors(tokens))
        at_click = (torch.arange(clicks.shape[1]) < lengths).unsqueeze(2)
        there = torch.arange(INTERESTS) < lengths.float().log2().floor().clamp(1, INTERESTS)
        logits = self.first_logits[: clicks.shape[1]].expand(len(clicks), -1, -1)
        for _ in range(ROUNDS - 1):
            capsules = _routed(logits, clicks.detach(), at_click, there)
            logits = logits + clicks.detach() @ capsules.transpose(1, 2)
        capsules = _routed(logits, clicks, at_click, there)
        context = self.encoder.class_vector(tokens)
        x = torch.cat([capsules, context.expand_as(capsules)], dim=2)
        return self.narrow(F.relu(self.widen(x))), there

    def loss(self, tokens: Tokens, generator: torch.Generator, /) -> Tensor:
        rows = (tokens.lengths > 1).nonzero().squeeze(1)
        if not len(rows):
            return self.encoder.class_token.sum() * 0.0
        some = Tokens(*(each[rows] for each in tokens))
        lengths = some.lengths.long()
        cut = 1 + (torch.rand(len(rows), generator=generator) * (lengths - 1)).long()
        beginning = slice_clicks(some, torch.zeros_like(cut), cut)
        vectors, there = self.interests(beginning._replace(session_ids=some.session_ids))
        which = torch.arange(len(rows))
        label = self.encoder.click_vectors(some)[which, cut]
        alike = (vectors @ label.unsqueeze(2)).squeeze(2).masked_fill(~there, NEVER)
        chosen = vectors[which, alike.argmax(1)]
        return click_loss(self.encoder.events, self.to_field, chosen, some.event_ids[which, cut])

    def embed(self, tokens: Tokens) -> Tensor:
        vectors, there = self.interests(tokens)
        weights = there.unsqueeze(2).float()
        mean = (vectors * weights).sum(1) / weights.sum(1)
        return torch.cat([mean, vectors.masked_fill(~there.unsqueeze(2), NEVER).amax(1)], dim=1)


def _routed(logits: Tensor, clicks: Tensor, at_click: Tensor, there: Tensor) -> Tensor:
    """[B, K, D]: capsules of clicks [B, T, D], each shared out over the interests by its logits [B, T, K]."""
    shares = logits.masked_fill(~there.unsqueeze(1), NEVER).softmax(2) * at_click
    summed = shares.transpose(1, 2) @ clicks
    square = summed.square().sum(2, keepdim=True)
    return summed * square / (1 + square) * (square + _EPSILON).rsqrt()


def icl(given: BaselineInput) -> Float64:
    """[S, 2D]"""
    return fitted(given, IntentContrast)


def mind(given: BaselineInput) -> Float64:
    """[S, 2D]"""
    return fitted(given, Interests)
