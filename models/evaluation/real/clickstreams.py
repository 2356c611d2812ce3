"""Clicks of a public clickstream as the models read them, in the order of its source.

A beginning of a session is a session of its own: that is all that is known when a decision falls within it.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from streamer.models.arrays import Float64
from streamer.models.tokenizer import Tokenizer
from streamer.models.training.config import TrainConfig
from streamer.models.training.corpus import Corpus, embed
from streamer.models.training.encoder import Encoder
from streamer.models.training.pretrain import Pretrained, deterministic, new_tokenizer, pretrain
from streamer.schemas.click import HEAD_CLICKS, KEPT_CLICKS, TAIL_CLICKS, Click, Session

Event = dict[str, Any]


class MissingDataError(Exception):
    """A clickstream that isn't there; the text says where it was looked for."""


def read(folder: Path, name: str) -> Iterator[Event]:
    """The records of NAME.jsonl.gz in its order."""
    path = folder / f"{name}.jsonl.gz"
    if not path.is_file():
        raise MissingDataError(f"{path} is not there; expected the folder of the public clickstreams")
    with gzip.open(path, "rb") as lines:
        for line in lines:
            yield orjson.loads(line)


def click_of(event: Event, **more: Any) -> Click:
    """`more` are fields that the source keeps elsewhere."""
    return Click(
        timestamp=event["timestamp"],
        event_id=event["event_id"],
        event_type=event["event_type"],
        page_type=event["page_type"],
        search_query=event["search_query"],
        element=event["element"],
        category=event["category"],
        product_id=event["product_id"],
        price=event["price"],
        **more,
    )


def session_of(visitor_id: str, clicks: Sequence[Click]) -> Session:
    """What the product would keep of these clicks; at least one."""
    kept = list(clicks)
    if len(kept) > KEPT_CLICKS:
        kept = kept[:HEAD_CLICKS] + kept[-TAIL_CLICKS:]
    return Session(
        session_id=clicks[0].event_id,
        visitor_id=visitor_id,
        user_id=None,
        started_at=clicks[0].timestamp,
        ended_at=clicks[-1].timestamp,
        closed_at=clicks[-1].timestamp,
        event_count=len(clicks),
        close_reason="drain",
        is_bot=False,
        clicks=kept,
    )


def trained_on(sessions: Sequence[Session], config: TrainConfig) -> tuple[Encoder, Tokenizer]:
    trained, tokenizer = pretrained_on(sessions, config)
    return trained.encoder, tokenizer


def pretrained_on(sessions: Sequence[Session], config: TrainConfig) -> tuple[Pretrained, Tokenizer]:
    import torch

    tokenizer = new_tokenizer(sessions, config)
    generator = torch.Generator().manual_seed(config.seed)
    with deterministic(config.threads):
        corpus = Corpus.of(sessions, tokenizer)
        return pretrain(corpus, tokenizer, config, generator, lambda *_: None), tokenizer


def embedded(
    encoder: Encoder, tokenizer: Tokenizer, sessions: Sequence[Session], threads: int = 1
) -> Float64:
    """[S, D]"""
    with deterministic(threads):
        return embed(encoder, Corpus.of(sessions, tokenizer)).astype(np.float64)
