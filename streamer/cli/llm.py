"""The language model of the settings, as a teacher for the training commands."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from streamer.cli.output import say
from streamer.errors import UsageError
from streamer.pipeline.scrub import scrub
from streamer.settings import LlmSettings

if TYPE_CHECKING:
    from models.llm.asking import Budget
    from models.llm.config import LlmConfig
    from models.llm.teacher import LlmTeacher
    from models.taxonomy import Taxonomy


_SAID_EVERY = 100


@contextmanager
def llm_teacher(settings: LlmSettings, work: Path, seed: int, fixed: Taxonomy | None) -> Iterator[LlmTeacher]:
    """Answers are stored in `work/llm`, the audit report in `work`. Raises UsageError."""
    config = _config(settings)
    from models.llm.asking import Asker, Budget
    from models.llm.endpoint import Endpoint
    from models.llm.teacher import LlmTeacher

    budget = Budget(config.budget_requests, config.budget_tokens)
    endpoint = Endpoint(config)
    # The client library would log every request, and there are thousands.
    for library in ("httpx", "httpx2", "openai"):
        logging.getLogger(library).setLevel(logging.WARNING)
    askers = [
        Asker(replace(config, model=model), endpoint, work / "llm", budget, _say_sometimes)
        for model in (config.model, config.second_model)
        if model
    ]
    try:
        yield LlmTeacher(config, askers[0], scrub, work, seed, second=(*askers, None)[1], fixed=fixed)
    finally:
        endpoint.close()


def _say_sometimes(budget: Budget) -> None:
    if budget.requests % _SAID_EVERY == 0:
        say(f"{budget.requests:,} answers, {budget.tokens:,} tokens")


def _config(settings: LlmSettings) -> LlmConfig:
    from models.llm.config import LlmConfig

    if not settings.base_url or not settings.model:
        missing = "llm.base_url" if not settings.base_url else "llm.model"
        raise UsageError(
            f"--teacher llm needs the setting {missing}: llm.base_url is an endpoint with OpenAI's chat"
            " completions, llm.model one of its models; --teacher keyless needs neither"
        )
    return LlmConfig(
        base_url=settings.base_url,
        model=settings.model,
        second_model=settings.second_model,
        api_key=settings.api_key.get_secret_value() if settings.api_key else "",
        headers={name: value.get_secret_value() for name, value in settings.headers.items()},
        timeout_s=settings.timeout_s,
        retries=settings.retries,
        concurrency=settings.concurrency,
        budget_requests=settings.budget_requests,
        budget_tokens=settings.budget_tokens,
        sessions_summarized=settings.sessions_summarized,
        sessions_labelled=settings.sessions_labelled,
        votes=settings.votes,
    )
