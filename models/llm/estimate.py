"""What a teacher that reads sessions will cost and send, before it costs anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from streamer.models.labelling.teacher import Estimate
from streamer.models.llm.config import LlmConfig
from streamer.models.llm.endpoint import tokens_in

_SHOWN = 3
_ANSWER_PER_SESSION = 40
_PROMPT = 300
"""Tokens of the task, the schema and the marks around what is asked."""
_PER_INTENT = 30
"""Tokens of an intent's label and description."""


@dataclass(frozen=True)
class _Step:
    requests: int
    tokens_each: int


def estimated(
    config: LlmConfig,
    renderings: Sequence[str],
    train: int,
    validation: int,
    *,
    makes_taxonomy: bool,
    has_second: bool,
) -> Estimate:
    """Of a teacher that reads sessions; `renderings` are a sample of them."""
    each = sum(tokens_in([{"content": text}]) for text in renderings) // max(1, len(renderings))
    intents = config.max_intents * _PER_INTENT

    def labels(sessions: int, votes: int) -> _Step:
        size = config.sessions_per_label
        tokens = _PROMPT + intents + size * (each + _ANSWER_PER_SESSION)
        return _Step(ceil(sessions / size) * votes, tokens)

    labelled = min(train, config.sessions_labelled)
    held_out = min(validation, max(1, config.sessions_labelled // 4))
    steps = [labels(labelled, config.votes), labels(held_out, config.votes)]
    if makes_taxonomy:
        summarized = min(train, config.sessions_summarized)
        steps += [
            _Step(
                ceil(summarized / config.sessions_per_summary),
                _PROMPT + config.sessions_per_summary * (each + _ANSWER_PER_SESSION),
            ),
            _Step(
                ceil(summarized / config.summaries_per_draft) + 1,
                _PROMPT + 2 * intents + config.summaries_per_draft * _PER_INTENT,
            ),
            labels(min(train, config.sessions_piloted), 1),
            _Step(1, _PROMPT + 2 * intents),
        ]
    if has_second:
        steps.append(labels(min(labelled, config.sessions_seconded), 1))
    return Estimate(
        sum(step.requests for step in steps),
        sum(step.requests * step.tokens_each for step in steps),
        tuple(renderings[:_SHOWN]),
    )
