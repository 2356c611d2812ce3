"""The language model of the settings, as a teacher or as what names clusters, for the training commands."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamer.cli.output import print_json, say
from streamer.errors import UsageError
from streamer.pipeline.scrub import scrub
from streamer.settings import LlmSettings

if TYPE_CHECKING:
    from streamer.models.labelling.gate import Bounds
    from streamer.models.labelling.teacher import Estimate
    from streamer.models.llm.asking import Asker
    from streamer.models.llm.cluster_naming import LlmNamer
    from streamer.models.llm.config import LlmConfig
    from streamer.models.llm.teacher import LlmTeacher
    from streamer.models.taxonomy import Taxonomy


@contextmanager
def llm_teacher(
    settings: LlmSettings, work: Path, seed: int, fixed: Taxonomy | None, batch: bool
) -> Iterator[LlmTeacher]:
    """Answers are stored in `work/llm`, the audit report in `work`. Raises UsageError."""
    from streamer.models.llm.teacher import LlmTeacher

    with _askers(settings, work, batch) as askers:
        second = (*askers, None)[1]
        yield LlmTeacher(
            askers[0].config,
            askers[0],
            scrub,
            work,
            seed,
            second=second,
            fixed=fixed,
            bounds=_bounds(settings),
        )


@contextmanager
def llm_namer(settings: LlmSettings, work: Path, seed: int) -> Iterator[LlmNamer]:
    """Answers are stored in `work/llm`. Raises UsageError."""
    from streamer.models.llm.cluster_naming import LlmNamer

    with _askers(settings, work) as askers:
        yield LlmNamer(askers[0], scrub, seed, _bounds(settings))


@contextmanager
def _askers(settings: LlmSettings, work: Path, batch: bool = False) -> Iterator[list[Asker]]:
    """One for each model of the settings, on one budget; `batch`: with the endpoint's batch API."""
    config = _config(settings)
    from streamer.models.llm.answer_store import AnswerStore
    from streamer.models.llm.asking import Asker
    from streamer.models.llm.batch_endpoint import BatchEndpoint
    from streamer.models.llm.batches import PENDING, Batches
    from streamer.models.llm.budget import Budget

    folder = work / "llm"
    if not batch and (pending := folder / PENDING).exists():
        raise UsageError(
            f"{pending}: a batch is under way; expected --llm-batch, to go on with it. To ask anew, cancel it"
            " at the endpoint and delete the file"
        )
    store = AnswerStore(folder / "answers.jsonl")
    budget = Budget(config.budget_requests, config.budget_tokens, folder / "spent.json")
    endpoint = BatchEndpoint(config)
    batches = Batches(endpoint, store, budget, settings.batch_requests, time.sleep) if batch else None
    # The client library would log every request, and there are thousands.
    for library in ("httpx", "httpx2", "openai"):
        logging.getLogger(library).setLevel(logging.WARNING)
    models = [model for model in (config.model, config.second_model) if model]
    try:
        yield [Asker(replace(config, model=model), endpoint, store, budget, batches) for model in models]
    finally:
        endpoint.close()


def say_preview(estimate: Estimate, config: LlmSettings, json: bool) -> None:
    """What a job will cost and send."""
    found: dict[str, Any] = {
        "endpoint": config.base_url,
        "model": config.model,
        "requests": estimate.requests,
        "tokens": estimate.tokens,
        "budget_requests": config.budget_requests,
        "budget_tokens": config.budget_tokens,
        "examples": list(estimate.shown),
    }
    if json:
        print_json(found)
        return
    say(
        f"{config.model} at {config.base_url}: about {estimate.requests:,} requests and {estimate.tokens:,}"
        f" tokens, more where answers are asked again; the budget is {config.budget_requests:,} requests and"
        f" {config.budget_tokens:,} tokens. Nothing has been sent."
    )
    say(f"What leaves the machine is text like these {len(estimate.shown)} examples, word for word:")
    for shown in estimate.shown:
        say("")
        say("\n".join(f"    {line}" for line in shown.splitlines()))


def _bounds(settings: LlmSettings) -> Bounds:
    from streamer.models.labelling.gate import Bounds

    return Bounds(settings.min_kappa, settings.min_evidence_precision, settings.max_without_vote)


def _config(settings: LlmSettings) -> LlmConfig:
    from streamer.models.llm.config import LlmConfig

    if not settings.base_url or not settings.model:
        missing = "llm.base_url" if not settings.base_url else "llm.model"
        raise UsageError(
            f"this teacher needs the setting {missing}: llm.base_url is an endpoint with OpenAI's chat"
            " completions, llm.model one of its models; --teacher keyless needs neither"
        )
    size = settings.sessions_per_request
    sizes = {} if size is None else {"sessions_per_summary": size, "sessions_per_label": size}
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
        temperature=settings.temperature,
        extra_body=settings.extra_body,
        site=settings.site,
        max_tokens=settings.max_tokens,
        sessions_summarized=settings.sessions_summarized,
        sessions_piloted=settings.sessions_piloted,
        sessions_labelled=settings.sessions_labelled,
        votes=settings.votes,
        **sizes,
    )
